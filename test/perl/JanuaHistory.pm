# Random histories of a provider: what happens to a handful of objects, and the
# webhooks that it sends about them.
#
#   my $history = JanuaHistory->new('stripe', $seed)->play(200);
#   foreach my $event ($history->events) ... # in the order in which they happened
#   my ($body, $headers) = $history->signed($event, \%references, $secret, time());
#
# Each provider's module knows the steps that its objects can take from the
# state in which they are (JanuaHistory/Stripe.pm and so on); this one has the
# dice and the clock. The same seed gives the same history. Events tell whole
# objects, as they were after the step. Many of them are of the same second, as
# far as the provider's clock goes.
#
# A text "REF:name" in an object is our own id of what the call in
# setup_statements() of that name has made.
package JanuaHistory;

use strict;
use warnings;

use Digest::SHA ();
use JSON::PP    ();

my $json = JSON::PP->new->canonical->allow_nonref;

our ($true, $false) = (JSON::PP::true, JSON::PP::false);

sub new
{
	my ($class, $provider, $seed) = @_;
	my $module = 'JanuaHistory::' . ucfirst $provider;

	eval "require $module" or die $@;
	srand($seed);
	my $self = bless { provider => $provider, events => [], objects => [], references => {}, serial => 0, day => 86400 }, $module;
	$self->{start} = 1_780_000_000 + int(rand(1_000_000));
	$self->{now} = $self->{start};
	return $self;
}

sub events { return @{ $_[0]{events} } }

# ---- dice ----

sub chance { return rand() < $_[1] }

sub pick
{
	my ($self, @of) = @_;

	return $of[ int(rand(@of)) ];
}

sub between { return $_[1] + int(rand($_[2] - $_[1] + 1)) }

sub shuffled
{
	my ($self, @list) = @_;

	foreach my $i (reverse 1 .. $#list)
	{
		my $j = int(rand($i + 1));
		@list[ $i, $j ] = @list[ $j, $i ];
	}
	return @list;
}

# Ids tell nothing about the order in which they were given.
sub new_id
{
	my ($self, $prefix) = @_;

	return $prefix . join '', map { $self->pick('0' .. '9', 'a' .. 'f') } 1 .. 24;
}

sub new_uuid
{
	my ($self) = @_;
	my $hex = $self->new_id('') . substr($self->new_id(''), 0, 8);

	substr($hex, 12, 1) = '4';
	substr($hex, 16, 1) = '8';
	return join '-', unpack 'A8A4A4A4A12', $hex;
}

# ---- time ----

# Every second event or so is of the same second as the one before.
sub pass_time
{
	my ($self) = @_;
	my $dice = rand();

	$self->{now} += $dice < 0.5 ? 0 : $dice < 0.75 ? 1 : $self->between(2, 7200);
}

sub now { return $_[0]{now} }

# ---- what happens ----

# A thing to happen to: CODE returns the steps (code) that it can take now.
sub add_object
{
	my ($self, $code) = @_;

	push @{ $self->{objects} }, $code;
}

# An event that shows an object as it is now. MORE belongs to the event itself.
sub tell
{
	my ($self, $type, $object, %more) = @_;

	push @{ $self->{events} },
	  { type => $type, id => $self->new_event_id, about => $object->{id}, body => $self->event_body($type, $object, %more) };
	$self->{events}[-1]{body}{id} = $self->{events}[-1]{id} if $self->ids_in_body;
	$self->{events}[-1]{body} = $json->encode($self->{events}[-1]{body});
}

sub ids_in_body { return 1 }

# COUNT events or a few more.
sub play
{
	my ($self, $count) = @_;

	$self->populate;
	for (my $tries = 0; @{ $self->{events} } < $count; $tries++)
	{
		die "nothing can happen any more in this history\n" if $tries > 100 * $count;
		my @steps = $self->pick(@{ $self->{objects} })->() or next;
		$self->pick(@steps)->();
		$self->pass_time;
	}
	return $self;
}

# ---- delivery ----

# The body of an event as an account gets it that has these ids for our names.
sub body_for
{
	my ($self, $event, $references) = @_;
	my $body = $event->{body};

	$body =~ s/REF:(\w+)/$references->{$1} || die "there is no $1\n"/ge;
	return $body;
}

# The same, and the headers that it comes with.
sub signed
{
	my ($self, $event, $references, $secret) = @_;
	my $body = $self->body_for($event, $references);

	$self->{bodies_for} = $references;
	return ($body, $self->headers($event, $body, $secret));
}

1;

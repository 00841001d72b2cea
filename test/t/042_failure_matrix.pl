# Every operation that changes something at a provider, and one that reads, in
# every trouble that there may be on the way: what becomes of the request and
# of the object, and that the provider has done it once in the end.
#
# A cell is request/object. The request is
#
#   done      sent once and answered
#   again     sent more than once, done
#   found     sent once; the answer was lost, and a look-up found what was done
#   declined  answered by a refusal to pay, which is an answer: nothing is sent again
#   dead      refused for good, or not to be had; a person has to see to it
#   waits     not sent, is tried again
#
# and the object is what billing.await() says of it. Dead and waiting ones are
# retried at the end, when nothing is in the way any more, and have to come out
# as in the column "ok".
use strict;
use warnings;

use Encode qw(decode_utf8 encode_utf8);
use JanuaTest;
use JSON::PP ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $yes = JSON::PP::true;

# What happens to the first sending. Nothing listens where an account of the
# column "closed" sends its calls.
my @TROUBLES = qw(ok declined 409 429 500 lost closed malformed huge 3xx);
my %FAULT = (
	declined  => { action => 'status', status => 402 },
	409       => { action => 'status', status => 409 },
	429       => { action => 'status', status => 429, retry_after => 1 },
	500       => { action => 'status', status => 500 },
	lost      => { action => 'drop_after' },
	malformed => { action => 'malformed_body' },
	huge      => { action => 'huge_body', size => 2 * 1024 * 1024 },
	'3xx'     => { action => 'redirect' },
);

my $TABLE = <<'END';
# Everywhere: a customer is deleted and a price retired here when the call is
# made, whatever the provider says. 402 is a declined payment where money is
# asked for, and a refusal like any other elsewhere. A redirection is followed
# by nobody. What reads is simply asked again.

# Stripe. A call that got no answer is sent again under its key, which does not
# do it twice. What was answered, but cannot be read, is looked up; so is a 500,
# which Stripe may have kept under the key: it is then sent under another one.
# invoice.send: a second letter does less harm than none. portal_session.create:
# nothing finds a session again, and a second one does no harm.
# webhook_endpoint.create and rotate: the secret is in the answer only, so that
# one whose answer cannot be read is deleted and made anew.
# operation                                 ok                    declined                   409                    429                    500                    lost                   closed                  malformed              huge                   3xx
stripe customer.create                      done/active           dead/active                again/active           again/active           again/active           again/active           waits/active            found/active           found/active           dead/active
stripe customer.update                      done/active           dead/active                again/active           again/active           again/active           again/active           waits/active            found/active           found/active           dead/active
stripe customer.set_tax_ids                 done/active           dead/active                again/active           again/active           again/active           again/active           waits/active            found/active           found/active           dead/active
stripe customer.delete                      done/deleted          dead/deleted               again/deleted          again/deleted          again/deleted          again/deleted          waits/deleted           found/deleted          found/deleted          dead/deleted
stripe payment_method.attach                done/attached         declined/failed            again/attached         again/attached         again/attached         again/attached         waits/pending           found/attached         found/attached         dead/failed
stripe payment_method.set_default           done/attached         dead/attached              again/attached         again/attached         again/attached         again/attached         waits/attached          found/attached         found/attached         dead/attached
stripe payment_method.detach                done/detached         dead/attached              again/detached         again/detached         again/detached         again/detached         waits/attached          found/detached         found/detached         dead/attached
stripe setup_intent.create                  done/pending          declined/failed            again/pending          again/pending          again/pending          again/pending          waits/pending           found/pending          found/pending          dead/failed
stripe setup_intent.cancel                  done/canceled         dead/pending               again/canceled         again/canceled         again/canceled         again/canceled         waits/pending           found/canceled         found/canceled         dead/pending
stripe product.create                       done/active           dead/active                again/active           again/active           again/active           again/active           waits/active            found/active           found/active           dead/active
stripe product.update                       done/active           dead/active                again/active           again/active           again/active           again/active           waits/active            found/active           found/active           dead/active
stripe price.create                         done/active           dead/active                again/active           again/active           again/active           again/active           waits/active            found/active           found/active           dead/active
stripe price.update                         done/retired          dead/retired               again/retired          again/retired          again/retired          again/retired          waits/retired           found/retired          found/retired          dead/retired
stripe subscription.create                  done/active           declined/incomplete        again/active           again/active           again/active           again/active           waits/incomplete        found/active           found/active           dead/incomplete
stripe subscription.update                  done/active           declined/active            again/active           again/active           again/active           again/active           waits/active            found/active           found/active           dead/active
stripe subscription.cancel                  done/canceled         dead/active                again/canceled         again/canceled         again/canceled         again/canceled         waits/active            found/canceled         found/canceled         dead/active
stripe subscription.cancel_at_period_end    done/active           dead/active                again/active           again/active           again/active           again/active           waits/active            found/active           found/active           dead/active
stripe subscription.uncancel                done/active           dead/active                again/active           again/active           again/active           again/active           waits/active            found/active           found/active           dead/active
stripe subscription.pause                   done/paused           dead/active                again/paused           again/paused           again/paused           again/paused           waits/active            found/paused           found/paused           dead/active
stripe subscription.resume                  done/active           declined/paused            again/active           again/active           again/active           again/active           waits/paused            found/active           found/active           dead/paused
stripe subscription.retry_payment           done/active           declined/incomplete        again/active           again/active           again/active           again/active           waits/incomplete        found/active           found/active           dead/incomplete
stripe payment_intent.create                done/succeeded        declined/failed            again/succeeded        again/succeeded        again/succeeded        again/succeeded        waits/pending           found/succeeded        found/succeeded        dead/failed
stripe payment_intent.confirm               done/succeeded        declined/failed            again/succeeded        again/succeeded        again/succeeded        again/succeeded        waits/pending           found/succeeded        found/succeeded        dead/pending
stripe payment_intent.capture               done/succeeded        declined/requires_capture  again/succeeded        again/succeeded        again/succeeded        again/succeeded        waits/requires_capture  found/succeeded        found/succeeded        dead/requires_capture
stripe payment_intent.cancel                done/canceled         dead/requires_capture      again/canceled         again/canceled         again/canceled         again/canceled         waits/requires_capture  found/canceled         found/canceled         dead/requires_capture
stripe payment_intent.verify_microdeposits  done/processing       declined/failed            again/processing       again/processing       again/processing       again/processing       waits/requires_action   found/processing       found/processing       dead/requires_action
stripe payment_intent.fetch                 done/succeeded        dead/succeeded             again/succeeded        again/succeeded        again/succeeded        again/succeeded        waits/succeeded         again/succeeded        again/succeeded        dead/succeeded
stripe refund.create                        done/succeeded        dead/failed                again/succeeded        again/succeeded        again/succeeded        again/succeeded        waits/pending           found/succeeded        found/succeeded        dead/failed
stripe refund.cancel                        done/canceled         dead/pending               again/canceled         again/canceled         again/canceled         again/canceled         waits/pending           found/canceled         found/canceled         dead/pending
stripe dispute.submit_evidence              done/under_review     dead/needs_response        again/under_review     again/under_review     again/under_review     again/under_review     waits/needs_response    found/under_review     found/under_review     dead/needs_response
stripe dispute.accept                       done/lost             dead/needs_response        again/lost             again/lost             again/lost             again/lost             waits/needs_response    found/lost             found/lost             dead/needs_response
stripe checkout_session.create              done/open             dead/failed                again/open             again/open             again/open             again/open             waits/pending           found/open             found/open             dead/failed
stripe checkout_session.expire              done/expired          dead/open                  again/expired          again/expired          again/expired          again/expired          waits/open              found/expired          found/expired          dead/open
stripe payment_link.create                  done/open             dead/failed                again/open             again/open             again/open             again/open             waits/pending           found/open             found/open             dead/failed
stripe payment_link.cancel                  done/canceled         dead/open                  again/canceled         again/canceled         again/canceled         again/canceled         waits/open              found/canceled         found/canceled         dead/open
stripe portal_session.create                done/open             dead/failed                again/open             again/open             again/open             again/open             waits/pending           again/open             again/open             dead/failed
stripe invoice.document                     done/open             dead/open                  again/open             again/open             again/open             again/open             waits/open              again/open             again/open             dead/open
stripe invoice.finalize                     done/open             dead/draft                 again/open             again/open             again/open             again/open             waits/draft             found/open             found/open             dead/draft
stripe invoice.pay                          done/paid             declined/open              again/paid             again/paid             again/paid             again/paid             waits/open              found/paid             found/paid             dead/open
stripe invoice.void                         done/void             dead/open                  again/void             again/void             again/void             again/void             waits/open              found/void             found/void             dead/open
stripe invoice.send                         done/open             dead/open                  again/open             again/open             again/open             again/open             waits/open              again/open             again/open             dead/open
stripe invoice.mark_uncollectible           done/uncollectible    dead/open                  again/uncollectible    again/uncollectible    again/uncollectible    again/uncollectible    waits/open              found/uncollectible    found/uncollectible    dead/open
stripe meter.create                         done/active            dead/failed            again/active           again/active           again/active           again/active           waits/pending          found/active           found/active           dead/failed
stripe webhook_endpoint.create              done/active           dead/failed                again/active           again/active           again/active           again/active           waits/pending           again/active           again/active           dead/failed
stripe webhook_endpoint.update              done/active           dead/active                again/active           again/active           again/active           again/active           waits/active            found/active           found/active           dead/active
stripe webhook_endpoint.rotate              done/active           dead/active                again/active           again/active           again/active           again/active           waits/active            again/active           again/active           dead/active
stripe webhook_endpoint.delete              done/deleted          dead/active                again/deleted          again/deleted          again/deleted          again/deleted          waits/active            found/deleted          found/deleted          dead/active

# Conekta. There are no keys: what may have been done is looked up before it is
# sent again. A payment or a subscription that is declined is looked at, too,
# because it may leave an order or a subscription behind.
# operation                                 ok                    declined                   409                    429                    500                    lost                   closed                  malformed              huge                   3xx
conekta customer.create                     done/active           dead/active                again/active           again/active           again/active           found/active           waits/active            found/active           found/active           dead/active
conekta customer.update                     done/active           dead/active                again/active           again/active           again/active           found/active           waits/active            found/active           found/active           dead/active
conekta customer.set_tax_ids                done/active           dead/active                again/active           again/active           again/active           found/active           waits/active            found/active           found/active           dead/active
conekta customer.delete                     done/deleted          dead/deleted               again/deleted          again/deleted          again/deleted          found/deleted          waits/deleted           found/deleted          found/deleted          dead/deleted
conekta payment_method.attach               done/attached         declined/failed            again/attached         again/attached         again/attached         found/attached         waits/pending           found/attached         found/attached         dead/failed
conekta payment_method.set_default          done/attached         dead/attached              again/attached         again/attached         again/attached         found/attached         waits/attached          found/attached         found/attached         dead/attached
conekta payment_method.detach               done/detached         dead/attached              again/detached         again/detached         again/detached         found/detached         waits/attached          found/detached         found/detached         dead/attached
conekta price.create                        done/active           dead/active                again/active           again/active           again/active           found/active           waits/active            found/active           found/active           dead/active
conekta price.update                        done/active           dead/active                again/active           again/active           again/active           found/active           waits/active            found/active           found/active           dead/active
conekta subscription.create                 done/active           declined/incomplete        again/active           again/active           again/active           found/active           waits/incomplete        found/active           found/active           dead/incomplete
conekta subscription.update                 done/active           declined/active            again/active           again/active           again/active           found/active           waits/active            found/active           found/active           dead/active
conekta subscription.cancel                 done/canceled         dead/active                again/canceled         again/canceled         again/canceled         found/canceled         waits/active            found/canceled         found/canceled         dead/active
conekta subscription.pause                  done/paused           dead/active                again/paused           again/paused           again/paused           found/paused           waits/active            found/paused           found/paused           dead/active
conekta subscription.resume                 done/active           declined/paused            again/active           again/active           again/active           found/active           waits/paused            found/active           found/active           dead/paused
conekta subscription.retry_payment          done/active           declined/past_due          again/active           again/active           again/active           found/active           waits/past_due          found/active           found/active           dead/past_due
conekta payment_intent.create               done/succeeded        declined/failed            again/succeeded        again/succeeded        again/succeeded        found/succeeded        waits/pending           found/succeeded        found/succeeded        dead/failed
conekta payment_intent.confirm              done/requires_action  declined/failed            again/requires_action  again/requires_action  again/requires_action  found/requires_action  waits/pending           found/requires_action  found/requires_action  dead/pending
conekta payment_intent.capture              done/succeeded        declined/requires_capture  again/succeeded        again/succeeded        again/succeeded        found/succeeded        waits/requires_capture  found/succeeded        found/succeeded        dead/requires_capture
conekta payment_intent.cancel               done/canceled         dead/requires_capture      again/canceled         again/canceled         again/canceled         found/canceled         waits/requires_capture  found/canceled         found/canceled         dead/requires_capture
conekta payment_intent.fetch                done/succeeded        dead/succeeded             again/succeeded        again/succeeded        again/succeeded        again/succeeded        waits/succeeded         again/succeeded        again/succeeded        dead/succeeded
conekta refund.create                       done/succeeded        dead/failed                again/succeeded        again/succeeded        again/succeeded        found/succeeded        waits/pending           found/succeeded        found/succeeded        dead/failed
conekta refund.cancel                       done/canceled         dead/pending               again/canceled         again/canceled         again/canceled         found/canceled         waits/pending           found/canceled         found/canceled         dead/pending
conekta checkout_session.create             done/open             dead/failed                again/open             again/open             again/open             found/open             waits/pending           found/open             found/open             dead/failed
conekta checkout_session.expire             done/canceled         dead/open                  again/canceled         again/canceled         again/canceled         found/canceled         waits/open              found/canceled         found/canceled         dead/open
conekta payment_link.create                 done/open             dead/failed                again/open             again/open             again/open             found/open             waits/pending           found/open             found/open             dead/failed
conekta payment_link.cancel                 done/canceled         dead/open                  again/canceled         again/canceled         again/canceled         found/canceled         waits/open              found/canceled         found/canceled         dead/open
conekta portal_session.create               done/open             dead/failed                again/open             again/open             again/open             found/open             waits/pending           found/open             found/open             dead/failed
conekta webhook_endpoint.create             done/active           dead/failed                again/active           again/active           again/active           found/active           waits/pending           found/active           found/active           dead/failed
conekta webhook_endpoint.update             done/active           dead/active                again/active           again/active           again/active           found/active           waits/active            found/active           found/active           dead/active
conekta webhook_endpoint.rotate             done/active           dead/active                again/active           again/active           again/active           found/active           waits/active            found/active           found/active           dead/active
conekta webhook_endpoint.delete             done/deleted          dead/active                again/deleted          again/deleted          again/deleted          found/deleted          waits/active            found/deleted          found/deleted          dead/active

# Polar. There are no keys: what may have been done is looked up before it is
# sent again. price.update: a name is not compared but said again.
# webhook_endpoint.rotate: nobody sees whether a secret is the new one, another
# one does no harm. portal_session.create: as at Stripe.
# operation                                 ok                    declined                   409                    429                    500                    lost                   closed                  malformed              huge                   3xx
polar customer.create                       done/active           dead/active                again/active           again/active           again/active           found/active           waits/active            found/active           found/active           dead/active
polar customer.update                       done/active           dead/active                again/active           again/active           again/active           found/active           waits/active            found/active           found/active           dead/active
polar customer.set_tax_ids                  done/active           dead/active                again/active           again/active           again/active           found/active           waits/active            found/active           found/active           dead/active
polar customer.delete                       done/deleted          dead/deleted               again/deleted          again/deleted          again/deleted          found/deleted          waits/deleted           found/deleted          found/deleted          dead/deleted
polar price.create                          done/active           dead/active                again/active           again/active           again/active           found/active           waits/active            found/active           found/active           dead/active
polar price.update                          done/active           dead/active                again/active           again/active           again/active           again/active           waits/active            again/active           again/active           dead/active
polar subscription.update                   done/active           declined/active            again/active           again/active           again/active           found/active           waits/active            found/active           found/active           dead/active
polar subscription.cancel                   done/canceled         dead/active                again/canceled         again/canceled         again/canceled         found/canceled         waits/active            found/canceled         found/canceled         dead/active
polar subscription.cancel_at_period_end     done/active           dead/active                again/active           again/active           again/active           found/active           waits/active            found/active           found/active           dead/active
polar subscription.uncancel                 done/active           dead/active                again/active           again/active           again/active           found/active           waits/active            found/active           found/active           dead/active
polar subscription.pause                    done/active           dead/active                again/active           again/active           again/active           found/active           waits/active            found/active           found/active           dead/active
polar subscription.resume                   done/active           declined/paused            again/active           again/active           again/active           found/active           waits/paused            found/active           found/active           dead/paused
polar payment_intent.create                 done/succeeded        declined/failed            again/succeeded        again/succeeded        again/succeeded        found/succeeded        waits/pending           found/succeeded        found/succeeded        dead/failed
polar payment_intent.create finalize        done/succeeded        declined/failed            again/succeeded        again/succeeded        again/succeeded        found/succeeded        waits/pending           found/succeeded        found/succeeded        dead/failed
polar payment_intent.confirm                done/succeeded        declined/failed            again/succeeded        again/succeeded        again/succeeded        found/succeeded        waits/pending           found/succeeded        found/succeeded        dead/pending
polar payment_intent.fetch                  done/succeeded        dead/succeeded             again/succeeded        again/succeeded        again/succeeded        again/succeeded        waits/succeeded         again/succeeded        again/succeeded        dead/succeeded
polar refund.create                         done/succeeded        dead/failed                again/succeeded        again/succeeded        again/succeeded        found/succeeded        waits/pending           found/succeeded        found/succeeded        dead/failed
polar dispute.accept                        done/lost             dead/needs_response        again/lost             again/lost             again/lost             found/lost             waits/needs_response    found/lost             found/lost             dead/needs_response
polar checkout_session.create               done/open             dead/failed                again/open             again/open             again/open             found/open             waits/pending           found/open             found/open             dead/failed
polar payment_link.create                   done/open             dead/failed                again/open             again/open             again/open             found/open             waits/pending           found/open             found/open             dead/failed
polar payment_link.cancel                   done/canceled         dead/open                  again/canceled         again/canceled         again/canceled         found/canceled         waits/open              found/canceled         found/canceled         dead/open
polar portal_session.create                 done/open             dead/failed                again/open             again/open             again/open             again/open             waits/pending           again/open             again/open             dead/failed
polar invoice.document                      done/paid             dead/paid                  again/paid             again/paid             again/paid             found/paid             waits/paid              found/paid             found/paid             dead/paid
polar meter.create                          done/active            dead/failed            again/active           again/active           again/active           found/active           waits/pending          found/active           found/active           dead/failed
polar webhook_endpoint.create               done/active           dead/failed                again/active           again/active           again/active           found/active           waits/pending           found/active           found/active           dead/failed
polar webhook_endpoint.update               done/active           dead/active                again/active           again/active           again/active           found/active           waits/active            found/active           found/active           dead/active
polar webhook_endpoint.rotate               done/active           dead/active                again/active           again/active           again/active           again/active           waits/active            again/active           again/active           dead/active
polar webhook_endpoint.delete               done/deleted          dead/active                again/deleted          again/deleted          again/deleted          found/deleted          waits/active            found/deleted          found/deleted          dead/active
END

# ---- the operations ----
#
# before: what has to be there, in order; each is [name, expression in SQL] or
# [name => sub], which acts at the simulator. call: the operation; what it
# returns, or what is named, is the object that the request is about. on: the
# request by which it changes something. made: the objects at the provider of
# which there has to be one. {name} is our id of something, <name> the
# provider's.

my $VISA = [ card => "attach_payment_method('{customer}', 'pm_card_visa')" ];
my $LINES = q('[{"name": "{org}", "amount": 30000, "currency": "CURRENCY", "quantity": 1}]');
my $PAGE = "create_checkout_session('{customer}', $LINES, 'https://example.com/ok', 'https://example.com/no')";
my $LINK = "create_payment_link('{org}', $LINES, provider => '{provider}', account => '{account}')";
my $HOOK = "register_webhook('{provider}', 'https://hooks.example.com/{org}', '{account}')";
my $METER = "forward_usage('{org}', '{provider}', '{account}')";
my $PAYMENT = "create_payment_intent('{customer}', 50000, 'CURRENCY', payment_method => '{card}', confirm => true)";
my $DRAFT = "create_payment_intent('{customer}', 50000, 'CURRENCY', confirm => false)";
my $HELD = "create_payment_intent('{customer}', 50000, 'CURRENCY', payment_method => '{card}', confirm => true, capture_method => 'manual')";
my $PLAN = [ plan => "create_plan('{org}', '{org}', 30000, 'CURRENCY')" ];
my $PRICE = [ price => "(SELECT id FROM billing.prices WHERE plan_id = '{plan}' AND is_default)" ];
my $CLIENT = [ customer => "create_customer('{org}', '{org}\@example.com', 'Ana', phone => '+525512345678', provider => '{provider}', account => '{account}', currency => 'CURRENCY')" ];
my $SUBSCRIPTION = [ subscription => "subscribe('{org}', 'CURRENCY_1')" ];

# The plan that it is changed to, sold once so that the provider knows it.
my @OTHER = (
	[ other => "create_customer('{org}o', '{org}o\@example.com', 'Ana', phone => '+525512345678', provider => '{provider}', account => '{account}', currency => 'CURRENCY')" ],
	[ '' => "create_checkout_session('{other}', plan => 'CURRENCY_2', success_url => 'https://example.com/ok', cancel_url => 'https://example.com/no')" ]);

# A payment that the buyer's bank wants back.
my @DISPUTED = (
	$CLIENT,
	[ payment => "create_payment_intent('{customer}', 50000, 'USD', payment_method => 'pm_card_createDispute', confirm => true)" ],
	[ account_id => "fetch_disputes('stripe', '{account}')" ],
	[ dispute => "(SELECT id FROM billing.disputes WHERE payment_intent_id = '{payment}')" ]);

# An invoice that has to be paid by a transfer.
my @INVOICED = (
	$CLIENT,
	[ subscription => "subscribe('{org}', 'CURRENCY_1', collection_method => 'send_invoice', days_until_due => 7)" ],
	[ '' => "refresh_invoices('{customer}')" ],
	[ invoice => "(SELECT id FROM billing.invoices WHERE subscription_id = '{subscription}')" ]);

my @STRIPE = (
	{ operation => 'customer.create', call => $CLIENT, on => [ 'POST', '^/v1/customers$', 'organization_id\]={org}' ], made => 'customers?metadata.janua_ref={customer}' },
	{ operation => 'customer.update', before => [$CLIENT], call => [ customer => q(update_customer('{customer}', '{"name": "Eva"}')) ], on => [ 'POST', '^/v1/customers/<customer>$' ] },
	{ operation => 'customer.set_tax_ids', before => [$CLIENT], call => [ customer => q(update_customer('{customer}', '{"tax_ids": [{"type": "eu_vat", "value": "DE123456789"}]}')) ],
		on => [ 'POST', '^/v1/customers/<customer>/tax_ids$' ], made => 'tax_ids?customer=<customer>' },
	{ operation => 'customer.delete', before => [$CLIENT], call => [ customer => "delete_customer('{customer}')" ], on => [ 'DELETE', '^/v1/customers/<customer>$' ] },
	{ operation => 'payment_method.attach', before => [ $CLIENT, [ '' => \&put_method, 'customer' ] ], call => [ card => "attach_payment_method('{customer}', '{token}')" ], on => [ 'POST', '/attach$', 'customer=<customer>' ], made => 'payment_methods?customer=<customer>' },
	{ operation => 'payment_method.set_default', before => [ $CLIENT, $VISA, [ second => "attach_payment_method('{customer}', 'pm_card_mastercard', set_default => false)" ] ],
		call => [ second => "set_default_payment_method('{second}')" ], on => [ 'POST', '^/v1/customers/<customer>$' ] },
	{ operation => 'payment_method.detach', before => [ $CLIENT, $VISA ], call => [ card => "detach_payment_method('{card}')" ], on => [ 'POST', '^/v1/payment_methods/<card>/detach$' ] },
	{ operation => 'setup_intent.create', before => [$CLIENT], call => [ setup => "create_setup_intent('{customer}')" ], on => [ 'POST', '^/v1/setup_intents$', 'customer=<customer>' ],
		made => 'setup_intents?customer=<customer>' },
	{ operation => 'setup_intent.cancel', before => [ $CLIENT, [ setup => "create_setup_intent('{customer}')" ] ], call => [ setup => "cancel_setup_intent('{setup}')" ],
		on => [ 'POST', '^/v1/setup_intents/<setup>/cancel$' ] },
	{ operation => 'product.create', before => [ $CLIENT, $VISA, $PLAN ], call => [ '' => "subscribe('{org}', '{org}')" ], about => 'plan', on => [ 'POST', '^/v1/products$', 'name={org}' ],
		made => 'products?metadata.janua_ref={plan}' },
	{ operation => 'product.update', before => [ $CLIENT, $VISA, $PLAN, [ subscription => "subscribe('{org}', '{org}')" ] ], call => [ plan => "UPDATE billing.plans SET name = 'x' WHERE id = '{plan}'" ],
		on => [ 'POST', '^/v1/products/<plan>$' ] },
	{ operation => 'price.create', before => [ $CLIENT, $VISA, $PLAN, $PRICE ], call => [ '' => "subscribe('{org}', '{org}')" ], about => 'price', on => [ 'POST', '^/v1/prices$', 'nickname={org}' ],
		made => 'prices?metadata.janua_ref={price}' },
	{ operation => 'price.update', before => [ $CLIENT, $VISA, $PLAN, $PRICE, [ subscription => "subscribe('{org}', '{org}')" ] ], call => [ '' => "create_price('{org}', 40000)" ], about => 'price',
		on => [ 'POST', '^/v1/prices/<price>$' ] },
	{ operation => 'subscription.create', before => [ $CLIENT, $VISA ], call => $SUBSCRIPTION, on => [ 'POST', '^/v1/subscriptions$', 'customer=<customer>' ], made => 'subscriptions?customer=<customer>' },
	{ operation => 'subscription.update', before => [ @OTHER, $CLIENT, $VISA, $SUBSCRIPTION ], call => [ subscription => "update_subscription('{subscription}', 'CURRENCY_2')" ],
		on => [ 'POST', '^/v1/subscriptions/<subscription>$' ] },
	{ operation => 'subscription.cancel', before => [ $CLIENT, $VISA, $SUBSCRIPTION ], call => [ subscription => "cancel_subscription('{subscription}', false)" ],
		on => [ 'DELETE', '^/v1/subscriptions/<subscription>$' ] },
	{ operation => 'subscription.cancel_at_period_end', before => [ $CLIENT, $VISA, $SUBSCRIPTION ], call => [ subscription => "cancel_subscription('{subscription}')" ],
		on => [ 'POST', '^/v1/subscriptions/<subscription>$' ] },
	{ operation => 'subscription.uncancel', before => [ $CLIENT, $VISA, $SUBSCRIPTION, [ '' => "cancel_subscription('{subscription}')" ] ], call => [ subscription => "resume_subscription('{subscription}')" ],
		on => [ 'POST', '^/v1/subscriptions/<subscription>$' ] },
	{ operation => 'subscription.pause', before => [ $CLIENT, $VISA, $SUBSCRIPTION ], call => [ subscription => "pause_subscription('{subscription}')" ],
		on => [ 'POST', '^/v1/subscriptions/<subscription>/pause$' ] },
	{ operation => 'subscription.resume', before => [ $CLIENT, $VISA, $SUBSCRIPTION, [ '' => "pause_subscription('{subscription}')" ] ], call => [ subscription => "resume_subscription('{subscription}')" ],
		on => [ 'POST', '^/v1/subscriptions/<subscription>/resume$' ] },
	{ operation => 'subscription.retry_payment', before => [ $CLIENT, [ bad => "attach_payment_method('{customer}', 'pm_card_chargeCustomerFail')" ], $SUBSCRIPTION,
			[ '' => "update_subscription('{subscription}', payment_method => 'pm_card_visa')" ],
			[ method => "(SELECT payment_method_id FROM billing.subscriptions WHERE id = '{subscription}')" ] ],
		call => [ subscription => "retry_payment('{subscription}')" ], on => [ 'POST', '^/v1/invoices/[^/]*/pay$', 'payment_method=<method>' ] },
	{ operation => 'payment_intent.create', before => [ $CLIENT, $VISA ], call => [ payment => $PAYMENT ], on => [ 'POST', '^/v1/payment_intents$', 'customer=<customer>' ],
		made => 'payment_intents?customer=<customer>' },
	{ operation => 'payment_intent.confirm', before => [ $CLIENT, $VISA, [ payment => $DRAFT ] ], call => [ payment => "confirm_payment_intent('{payment}', '{card}')" ],
		on => [ 'POST', '^/v1/payment_intents/<payment>/confirm$' ], made => 'charges?payment_intent=<payment>' },
	{ operation => 'payment_intent.capture', before => [ $CLIENT, $VISA, [ payment => $HELD ] ], call => [ payment => "capture_payment_intent('{payment}')" ],
		on => [ 'POST', '^/v1/payment_intents/<payment>/capture$' ] },
	{ operation => 'payment_intent.cancel', before => [ $CLIENT, $VISA, [ payment => $HELD ] ], call => [ payment => "cancel_payment_intent('{payment}')" ],
		on => [ 'POST', '^/v1/payment_intents/<payment>/cancel$' ] },
	{ operation => 'payment_intent.verify_microdeposits', before => [ $CLIENT,
			[ payment => "create_payment_intent('{customer}', 50000, 'USD', 'us_bank_account', 'pm_usBankAccount_success', mandate => '{\"type\": \"offline\"}')" ],
			[ '' => sub { edit('payment_intents', $_[0], { status => 'requires_action', next_action => { type => 'verify_with_microdeposits', verify_with_microdeposits => {
				arrival_date => time(), hosted_verification_url => 'https://example.com', microdeposit_type => 'amounts' } } }) }, 'payment' ],
			[ '' => "refresh('{payment}')" ] ],
		call => [ payment => "verify_microdeposits('{payment}', '{32,45}')" ], on => [ 'POST', '^/v1/payment_intents/<payment>/verify_microdeposits$' ] },
	{ operation => 'payment_intent.fetch', before => [ $CLIENT, $VISA, [ payment => $PAYMENT ] ], call => [ payment => "refresh('{payment}')" ], on => [ 'GET', '^/v1/payment_intents/<payment>(\?|$)' ] },
	{ operation => 'refund.create', before => [ $CLIENT, $VISA, [ payment => $PAYMENT ] ], call => [ refund => "create_refund('{payment}', 10000)" ],
		on => [ 'POST', '^/v1/refunds$', 'payment_intent=<payment>' ], made => 'refunds?payment_intent=<payment>' },
	{ operation => 'refund.cancel', before => [ $CLIENT, $VISA, [ payment => $PAYMENT ], [ refund => "create_refund('{payment}', 10000)" ],
			[ '' => sub { edit('refunds', $_[0], { status => 'requires_action' }) }, 'refund' ],
			[ '' => "UPDATE billing.refunds SET status = 'pending' WHERE id = '{refund}'" ] ],
		call => [ refund => "cancel_refund('{refund}')" ], on => [ 'POST', '^/v1/refunds/<refund>/cancel$' ] },
	{ operation => 'dispute.submit_evidence', before => \@DISPUTED, call => [ dispute => q(submit_dispute_evidence('{dispute}', '{"uncategorized_text": "x"}')) ], on => [ 'POST', '^/v1/disputes/<dispute>$' ] },
	{ operation => 'dispute.accept', before => \@DISPUTED, call => [ dispute => "accept_dispute('{dispute}')" ], on => [ 'POST', '^/v1/disputes/<dispute>/close$' ] },
	{ operation => 'checkout_session.create', before => [$CLIENT], call => [ page => $PAGE ], on => [ 'POST', '^/v1/checkout/sessions$', 'customer=<customer>' ], made => 'checkout_sessions?customer=<customer>' },
	{ operation => 'checkout_session.expire', before => [ $CLIENT, [ page => $PAGE ] ], call => [ page => "expire_checkout_session('{page}')" ], on => [ 'POST', '^/v1/checkout/sessions/<page>/expire$' ] },
	{ operation => 'payment_link.create', call => [ link => $LINK ], on => [ 'POST', '^/v1/payment_links$', '{org}' ], made => 'payment_links?metadata.janua_ref={link}' },
	{ operation => 'payment_link.cancel', before => [ [ link => $LINK ] ], call => [ link => "cancel_payment_link('{link}')" ], on => [ 'POST', '^/v1/payment_links/<link>$' ] },
	{ operation => 'portal_session.create', before => [$CLIENT], call => [ portal => "create_portal_session('{customer}', 'https://example.com/')" ],
		on => [ 'POST', '^/v1/billing_portal/sessions$', 'customer=<customer>' ] },
	{ operation => 'invoice.document', before => \@INVOICED, call => [ invoice => "fetch_invoice_document('{invoice}')" ], on => [ 'GET', '^/v1/invoices/<invoice>(\?|$)' ] },
	{ operation => 'invoice.finalize', before => [ @INVOICED, [ '' => sub { edit('invoices', $_[0], { status => 'draft' }) }, 'invoice' ],
			[ '' => "UPDATE billing.invoices SET status = 'draft' WHERE id = '{invoice}'" ] ],
		call => [ invoice => "finalize_invoice('{invoice}')" ], on => [ 'POST', '^/v1/invoices/<invoice>/finalize$' ] },
	{ operation => 'invoice.pay', before => [ @INVOICED, $VISA ], call => [ invoice => "pay_invoice('{invoice}', '{card}')" ], on => [ 'POST', '^/v1/invoices/<invoice>/pay$' ] },
	{ operation => 'invoice.void', before => \@INVOICED, call => [ invoice => "void_invoice('{invoice}')" ], on => [ 'POST', '^/v1/invoices/<invoice>/void$' ] },
	{ operation => 'invoice.send', before => \@INVOICED, call => [ invoice => "send_invoice('{invoice}')" ], on => [ 'POST', '^/v1/invoices/<invoice>/send$' ] },
	{ operation => 'invoice.mark_uncollectible', before => \@INVOICED, call => [ invoice => "mark_invoice_uncollectible('{invoice}')" ], on => [ 'POST', '^/v1/invoices/<invoice>/mark_uncollectible$' ] },
	{ operation => 'meter.create', call => [ meter => $METER ], on => [ 'POST', '^/v1/billing/meters$', '{org}' ], made => 'meters?event_name={org}' },
	{ operation => 'webhook_endpoint.create', call => [ hook => $HOOK ], on => [ 'POST', '^/v1/webhook_endpoints$', '{org}' ], made => 'webhook_endpoints?url=https://hooks.example.com/{org}' },
	{ operation => 'webhook_endpoint.update', before => [ [ hook => $HOOK ] ], call => [ hook => "update_webhook('{hook}', enabled => false)" ], on => [ 'POST', '^/v1/webhook_endpoints/<hook>$' ] },
	{ operation => 'webhook_endpoint.rotate', before => [ [ hook => $HOOK ] ], call => [ hook => "rotate_webhook_secret('{hook}')" ], on => [ 'POST', '^/v1/webhook_endpoints$', '{org}' ],
		made => 'webhook_endpoints?url=https://hooks.example.com/{org}' },
	{ operation => 'webhook_endpoint.delete', before => [ [ hook => $HOOK ] ], call => [ hook => "delete_webhook('{hook}')" ], on => [ 'DELETE', '^/v1/webhook_endpoints/<hook>$' ] },
);

my $CARD = [ card => "attach_payment_method('{customer}', 'tok_test_visa_4242_{org}')" ];
my $VOUCHER = [ payment => "create_payment_intent('{customer}', 50000, 'MXN', method => 'oxxo', confirm => true)" ];
my $ADDRESS = '{"line1": "Reforma 1", "postal_code": "06100", "city": "Mexico", "country": "MX"}';

my @CONEKTA = (
	{ operation => 'customer.create', call => $CLIENT, on => [ 'POST', '^/customers$', '{org}' ], made => 'customers?custom_reference={customer}' },
	{ operation => 'customer.update', before => [$CLIENT], call => [ customer => q(update_customer('{customer}', '{"name": "Eva"}')) ], on => [ 'PUT', '^/customers/<customer>$' ] },
	{ operation => 'customer.set_tax_ids', before => [$CLIENT], on => [ 'POST', '^/customers/<customer>/fiscal_entities$' ], made => 'fiscal_entities?parent_id=<customer>',
		call => [ customer => qq(update_customer('{customer}', '{"address": $ADDRESS, "tax_ids": [{"type": "mx_rfc", "value": "AAA010101AAA"}]}')) ] },
	{ operation => 'customer.delete', before => [$CLIENT], call => [ customer => "delete_customer('{customer}')" ], on => [ 'DELETE', '^/customers/<customer>$' ] },
	{ operation => 'payment_method.attach', before => [$CLIENT], call => $CARD, on => [ 'POST', '^/customers/<customer>/payment_sources$' ], made => 'payment_sources?parent_id=<customer>' },
	{ operation => 'payment_method.set_default', before => [ $CLIENT, $CARD, [ second => "attach_payment_method('{customer}', 'tok_test_mastercard_4444_{org}', set_default => false)" ] ],
		call => [ second => "set_default_payment_method('{second}')" ], on => [ 'PUT', '^/customers/<customer>$' ] },
	{ operation => 'payment_method.detach', before => [ $CLIENT, $CARD ], call => [ card => "detach_payment_method('{card}')" ], on => [ 'DELETE', '/payment_sources/<card>$' ] },
	{ operation => 'price.create', before => [ $CLIENT, $CARD, $PLAN, $PRICE ], call => [ '' => "subscribe('{org}', '{org}')" ], about => 'price', on => [ 'POST', '^/plans$', '{org}' ],
		made => 'plans?name={org}' },
	{ operation => 'price.update', before => [ $CLIENT, $CARD, $PLAN, $PRICE, [ subscription => "subscribe('{org}', '{org}')" ] ], call => [ '' => "UPDATE billing.plans SET name = 'x' WHERE id = '{plan}'" ],
		about => 'price', on => [ 'PUT', '^/plans/<price>$' ] },
	{ operation => 'subscription.create', before => [ $CLIENT, $CARD ], call => $SUBSCRIPTION, on => [ 'POST', '^/customers/<customer>/subscriptions$' ], made => 'subscriptions?customer_id=<customer>' },
	{ operation => 'subscription.update', before => [ @OTHER, $CLIENT, $CARD, $SUBSCRIPTION ], call => [ subscription => "update_subscription('{subscription}', 'CURRENCY_2', proration_behavior => 'none')" ],
		on => [ 'PUT', '/subscriptions/<subscription>$' ] },
	{ operation => 'subscription.cancel', before => [ $CLIENT, $CARD, $SUBSCRIPTION ], call => [ subscription => "cancel_subscription('{subscription}', false)" ],
		on => [ 'POST', '/subscriptions/<subscription>/cancel$' ] },
	{ operation => 'subscription.pause', before => [ $CLIENT, $CARD, $SUBSCRIPTION ], call => [ subscription => "pause_subscription('{subscription}')" ],
		on => [ 'POST', '/subscriptions/<subscription>/pause$' ] },
	{ operation => 'subscription.resume', before => [ $CLIENT, $CARD, $SUBSCRIPTION, [ '' => "pause_subscription('{subscription}')" ] ], call => [ subscription => "resume_subscription('{subscription}')" ],
		on => [ 'POST', '/subscriptions/<subscription>/resume$' ] },
	{ operation => 'subscription.retry_payment', before => [ $CLIENT, $CARD, $SUBSCRIPTION, [ '' => sub { act('conekta', action => 'bill', subscription => $_[0], outcome => 'declined') }, 'subscription' ],
			[ '' => "refresh('{subscription}')" ] ],
		call => [ subscription => "retry_payment('{subscription}')" ], on => [ 'POST', '/subscriptions/<subscription>/retry$' ] },
	{ operation => 'payment_intent.create', before => [ $CLIENT, $CARD ], call => [ payment => $PAYMENT ], on => [ 'POST', '^/orders$', '{org}' ], made => 'orders?metadata.janua_ref={payment}' },
	{ operation => 'payment_intent.confirm', before => [ $CLIENT, [ payment => $DRAFT ] ], call => [ payment => "confirm_payment_intent('{payment}', method => 'spei')" ],
		on => [ 'POST', '^/orders/<payment>/charges$' ], made => 'charges?order_id=<payment>' },
	{ operation => 'payment_intent.capture', before => [ $CLIENT, $CARD, [ payment => $HELD ] ], call => [ payment => "capture_payment_intent('{payment}')" ], on => [ 'POST', '^/orders/<payment>/capture$' ] },
	{ operation => 'payment_intent.cancel', before => [ $CLIENT, $CARD, [ payment => $HELD ] ], call => [ payment => "cancel_payment_intent('{payment}')" ], on => [ 'POST', '^/orders/<payment>/cancel$' ] },
	{ operation => 'payment_intent.fetch', before => [ $CLIENT, $CARD, [ payment => $PAYMENT ] ], call => [ payment => "refresh('{payment}')" ], on => [ 'GET', '^/orders/<payment>$' ] },
	{ operation => 'refund.create', before => [ $CLIENT, $CARD, [ payment => $PAYMENT ] ], call => [ refund => "create_refund('{payment}', 10{n})" ], on => [ 'POST', '^/orders/<payment>/refunds$' ],
		made => 'refunds?amount=-10{n}' },
	{ operation => 'refund.cancel', before => [ $CLIENT, $VOUCHER, [ reference => "client_config('{payment}') -> 'next_action' ->> 'reference'" ],
			[ '' => sub { act('conekta', action => 'pay_reference', reference => $_[1]{id}{reference}) }, 'payment' ], [ '' => "refresh('{payment}')" ], [ refund => "create_refund('{payment}')" ] ],
		call => [ refund => "cancel_refund('{refund}')" ], on => [ 'DELETE', '^/orders/<payment>/refunds/<refund>$' ] },
	{ operation => 'checkout_session.create', before => [$CLIENT], call => [ page => $PAGE ], on => [ 'POST', '^/orders$', '{org}' ], made => 'orders?metadata.janua_session={page}' },
	{ operation => 'checkout_session.expire', before => [ $CLIENT, [ page => $PAGE ] ], call => [ page => "expire_checkout_session('{page}')" ], on => [ 'PUT', '^/checkouts/<page>/cancel$' ] },
	{ operation => 'payment_link.create', call => [ link => $LINK ], on => [ 'POST', '^/checkouts$', '{org}' ], made => 'checkouts?name={org}' },
	{ operation => 'payment_link.cancel', before => [ [ link => $LINK ] ], call => [ link => "cancel_payment_link('{link}')" ], on => [ 'PUT', '^/checkouts/<link>/cancel$' ] },
	{ operation => 'portal_session.create', before => [ $CLIENT, $CARD, $SUBSCRIPTION ], call => [ portal => "create_portal_session('{customer}', subscription_id => '{subscription}')" ],
		on => [ 'POST', '^/subscriptions/<subscription>/customer_portal$' ] },
	{ operation => 'webhook_endpoint.create', call => [ hook => $HOOK ], on => [ 'POST', '^/webhooks$', '{org}' ], made => 'webhooks?url=https://hooks.example.com/{org}' },
	{ operation => 'webhook_endpoint.update', before => [ [ hook => $HOOK ] ], call => [ hook => "update_webhook('{hook}', enabled => false)" ], on => [ 'PUT', '^/webhooks/<hook>$' ] },
	{ operation => 'webhook_endpoint.rotate', before => [ [ hook => $HOOK ] ], call => [ hook => "rotate_webhook_secret('{hook}')" ], on => [ 'POST', '^/webhook_keys$' ], alone => 1 },
	{ operation => 'webhook_endpoint.delete', before => [ [ hook => $HOOK ] ], call => [ hook => "delete_webhook('{hook}')" ], on => [ 'DELETE', '^/webhooks/<hook>$' ] },
);

my $SAVED = [ '' => sub { act('polar', action => 'add_payment_method', customer => $_[0], last4 => '4242') }, 'customer' ];
my @SAVED = ($CLIENT, $SAVED, [ '' => "refresh_payment_methods('{customer}')" ], [ card => "(SELECT id FROM billing.list_payment_methods('{customer}'))" ]);
my $BUY = [ page => "create_checkout_session('{customer}', plan => 'CURRENCY_1', success_url => 'https://example.com/ok')" ];
my $SELL = [ page => "create_checkout_session('{customer}', plan => '{org}', success_url => 'https://example.com/ok')" ];
my $PRICED = q('[{"price": "{price}"}]');
my $POLAR_LINK = "create_payment_link('{org}', $PRICED, provider => 'polar', account => '{account}')";
my @BOUGHT = (
	$CLIENT, $BUY, [ '' => sub { act('polar', action => 'complete_checkout', checkout => $_[0]) }, 'page' ], [ '' => "refresh_checkout_session('{page}')" ],
	[ subscription => "(SELECT subscription_id FROM billing.checkout_sessions WHERE id = '{page}')" ], [ '' => "refresh('{subscription}')" ]);
my @PAID = (@SAVED, [ payment => $PAYMENT ]);

my @POLAR = (
	{ operation => 'customer.create', call => $CLIENT, on => [ 'POST', '^/v1/customers/$', '{org}' ], made => 'customers?external_id={customer}' },
	{ operation => 'customer.update', before => [$CLIENT], call => [ customer => q(update_customer('{customer}', '{"name": "Eva"}')) ], on => [ 'PATCH', '^/v1/customers/<customer>$' ] },
	{ operation => 'customer.set_tax_ids', before => [$CLIENT], on => [ 'PATCH', '^/v1/customers/<customer>$', 'DE123456789' ],
		call => [ customer => q(update_customer('{customer}', '{"address": {"country": "DE"}, "tax_ids": [{"type": "eu_vat", "value": "DE123456789"}]}')) ] },
	{ operation => 'customer.delete', before => [$CLIENT], call => [ customer => "delete_customer('{customer}')" ], on => [ 'DELETE', '^/v1/customers/<customer>$' ] },
	{ operation => 'price.create', before => [ $CLIENT, $PLAN, $PRICE ], call => $SELL, about => 'price', on => [ 'POST', '^/v1/products/$', '{org}' ], made => 'products?name={org}' },
	{ operation => 'price.update', before => [ $CLIENT, $PLAN, $PRICE, $SELL ], call => [ '' => "UPDATE billing.plans SET name = '{org} x' WHERE id = '{plan}'" ], about => 'price',
		on => [ 'PATCH', '^/v1/products/<price>$' ] },
	{ operation => 'subscription.update', before => [ @OTHER, @BOUGHT ], call => [ subscription => "update_subscription('{subscription}', 'CURRENCY_2', proration_behavior => 'always_invoice')" ],
		on => [ 'PATCH', '^/v1/subscriptions/<subscription>$' ] },
	{ operation => 'subscription.cancel', before => \@BOUGHT, call => [ subscription => "cancel_subscription('{subscription}', false)" ], on => [ '', '^/v1/subscriptions/<subscription>$' ] },
	{ operation => 'subscription.cancel_at_period_end', before => \@BOUGHT, call => [ subscription => "cancel_subscription('{subscription}')" ], on => [ 'PATCH', '^/v1/subscriptions/<subscription>$' ] },
	{ operation => 'subscription.uncancel', before => [ @BOUGHT, [ '' => "cancel_subscription('{subscription}')" ] ], call => [ subscription => "resume_subscription('{subscription}')" ],
		on => [ 'PATCH', '^/v1/subscriptions/<subscription>$' ] },
	{ operation => 'subscription.pause', before => \@BOUGHT, call => [ subscription => "pause_subscription('{subscription}', at_period_end => true)" ], on => [ 'PATCH', '^/v1/subscriptions/<subscription>$' ] },
	{ operation => 'subscription.resume', before => [ @BOUGHT, [ '' => "pause_subscription('{subscription}', at_period_end => true)" ], [ '' => sub { act('polar', action => 'cycle', subscription => $_[0]) }, 'subscription' ],
			[ '' => "refresh('{subscription}')" ] ],
		call => [ subscription => "resume_subscription('{subscription}')" ], on => [ 'PATCH', '^/v1/subscriptions/<subscription>$' ] },
	{ operation => 'payment_intent.create', before => \@SAVED, call => [ payment => $PAYMENT ], on => [ 'POST', '^/v1/orders/$', '{org}' ], made => 'orders?metadata.janua_payment={payment}' },
	{ operation => 'payment_intent.create', step => 'finalize', before => \@SAVED, call => [ payment => $PAYMENT ], on => [ 'POST', '/finalize$', '<card>' ], made => 'payments?order_id=<payment>' },
	{ operation => 'payment_intent.confirm', before => [ @SAVED, [ payment => $DRAFT ] ], call => [ payment => "confirm_payment_intent('{payment}', '{card}')" ],
		on => [ 'POST', '^/v1/orders/<payment>/finalize$' ], made => 'payments?order_id=<payment>' },
	{ operation => 'payment_intent.fetch', before => \@PAID, call => [ payment => "refresh('{payment}')" ], on => [ 'GET', '^/v1/orders/<payment>$' ] },
	{ operation => 'refund.create', before => \@PAID, call => [ refund => "create_refund('{payment}', 10000)" ], on => [ 'POST', '^/v1/refunds/$', '<payment>' ], made => 'refunds?order_id=<payment>' },
	{ operation => 'dispute.accept', before => [ @PAID, [ '' => sub { act('polar', action => 'dispute', order => $_[0]) }, 'payment' ], [ account_id => "fetch_disputes('polar', '{account}')" ],
			[ dispute => "(SELECT id FROM billing.disputes WHERE payment_intent_id = '{payment}')" ] ],
		call => [ dispute => "accept_dispute('{dispute}')" ], on => [ 'POST', '^/v1/disputes/<dispute>/accept$' ] },
	{ operation => 'checkout_session.create', before => [$CLIENT], call => $BUY, on => [ 'POST', '^/v1/checkouts/$', '{org}' ], made => 'checkouts?metadata.janua_session={page}' },
	{ operation => 'payment_link.create', before => [ $CLIENT, $PLAN, $PRICE, $SELL ], call => [ link => $POLAR_LINK ], on => [ 'POST', '^/v1/checkout-links/$', '{org}' ],
		made => 'checkout_links?metadata.janua_link={link}' },
	{ operation => 'payment_link.cancel', before => [ $CLIENT, $PLAN, $PRICE, $SELL, [ link => $POLAR_LINK ] ], call => [ link => "cancel_payment_link('{link}')" ],
		on => [ 'DELETE', '^/v1/checkout-links/<link>$' ] },
	{ operation => 'portal_session.create', before => [$CLIENT], call => [ portal => "create_portal_session('{customer}', 'https://example.com/')" ], on => [ 'POST', '^/v1/customer-sessions/$', '<customer>' ] },
	{ operation => 'invoice.document', before => [ @BOUGHT, [ '' => "refresh_invoices('{customer}')" ], [ invoice => "(SELECT id FROM billing.invoices WHERE customer_id = '{customer}')" ],
			[ '' => sub { edit('orders', $_[0], { billing_name => 'A', billing_address => { country => 'DE' } }, 'polar') }, 'invoice' ] ],
		call => [ invoice => "fetch_invoice_document('{invoice}')" ], on => [ 'POST', '^/v1/orders/<invoice>/invoice$' ] },
	{ operation => 'meter.create', call => [ meter => $METER ], on => [ 'POST', '^/v1/meters/$', '{org}' ], made => 'meters?metadata.janua_ref={meter}' },
	{ operation => 'webhook_endpoint.create', call => [ hook => $HOOK ], on => [ 'POST', '^/v1/webhooks/endpoints$', '{org}' ], made => 'webhook_endpoints?url=https://hooks.example.com/{org}' },
	{ operation => 'webhook_endpoint.update', before => [ [ hook => $HOOK ] ], call => [ hook => "update_webhook('{hook}', enabled => false)" ], on => [ 'PATCH', '^/v1/webhooks/endpoints/<hook>$' ] },
	{ operation => 'webhook_endpoint.rotate', before => [ [ hook => $HOOK ] ], call => [ hook => "rotate_webhook_secret('{hook}')" ], on => [ 'PATCH', '^/v1/webhooks/endpoints/<hook>/secret$' ] },
	{ operation => 'webhook_endpoint.delete', before => [ [ hook => $HOOK ] ], call => [ hook => "delete_webhook('{hook}')" ], on => [ 'DELETE', '^/v1/webhooks/endpoints/<hook>$' ] },
);

my @PROVIDERS = ([ 'stripe', 'USD', \@STRIPE ], [ 'conekta', 'MXN', \@CONEKTA ], [ 'polar', 'USD', \@POLAR ]);

# Supported, but nothing in SQL leads there: a plan that costs nothing is
# nothing to tell Polar, and one that costs is sold by a checkout.
# Usage is told by the worker by itself: 064_usage_forwarding.pl.
my %UNREACHED = ('polar subscription.create' => 1, 'stripe usage.report' => 1, 'polar usage.ingest' => 1);

# What is refused for good has failed, and another call makes another one: a
# retry finds that nobody wants it any more.
my %NOT_RETRIED = map { $_ => 1 } qw(refund.create checkout_session.create payment_link.create portal_session.create);

# ---- the server, the simulator ----

my $simulator = start_simulator();
my $node = new_node('main', conf => "janua_billing.max_in_flight = 128\njanua_billing.http_timeout = '20s'\nfsync = off\n");

sub sql { return decode_utf8($node->safe_psql('postgres', encode_utf8($_[0]))) }
sub act { return $simulator->control('act', { provider => shift, @_ }) }
sub edit { return $simulator->control('edit', { kind => $_[0], id => $_[1], fields => $_[2], provider => $_[3] || 'stripe' }) }

# A card that is saved for nobody yet, as a browser makes it.
sub put_method
{
	my ($customer, $cell) = @_;

	$cell->{id}{token} = $simulator->control('call', { method => 'POST', path => '/v1/payment_methods/pm_card_visa/attach', params => { customer => $customer } })->{body}{id};
	edit('payment_methods', $cell->{id}{token}, { customer => undef });
}

my %SECRET = (stripe => 'sk_test_', conekta => 'key_', polar => 'polar_oat_');
my %OPTIONS = (stripe => {}, conekta => { sandbox => $yes }, polar => { sandbox => $yes });

sub configure
{
	my ($provider, $account, $url) = @_;
	my $options = JSON::PP->new->encode({ rate_per_second => 0, %{ $OPTIONS{$provider} } });

	sql("SELECT billing.configure_provider('$provider', '$SECRET{$provider}$account', base_url => '$url', account => '$account', options => '$options')");
}

$simulator->control('log', { limit => 100000 });
my %base = map { $_ => $simulator->url . "/$_" } keys %SECRET;
$OPTIONS{polar}{product_id} = $simulator->control('call', { provider => 'polar', method => 'POST', path => '/v1/products/',
	params => { name => 'Charges', prices => [ { amount_type => 'fixed', price_amount => 100, price_currency => 'usd' } ], recurring_interval => undef } })->{body}{id};
foreach my $provider (keys %SECRET)
{
	configure($provider, $_, $base{$provider}) foreach @TROUBLES;
}
sql(<<'SQL');
UPDATE billing.settings SET value = '1000000' WHERE name = 'circuit_threshold';
UPDATE billing.settings SET value = '20 milliseconds' WHERE name = 'retry_base';
SELECT billing.create_plan(c || '_' || n, c || ' ' || n, 10000 * n, c) FROM (VALUES ('USD'), ('MXN')) AS v (c), generate_series(1, 2) AS n;
CREATE TABLE public.cells (cell integer PRIMARY KEY, operation text, object_id uuid, account text);
SQL

# ---- cells ----

my @cells;

foreach my $provider (@PROVIDERS)
{
	my ($name, $currency, $rows) = @$provider;

	foreach my $row (@$rows)
	{
		push @cells, { n => scalar @cells, row => $row, provider => $name, currency => $currency, account => $_, id => { org => sprintf('c%04dx', scalar @cells) },
			label => join(' ', $name, $row->{operation}, $row->{step} || ()) }
		  foreach @TROUBLES;
	}
}

my %ref;

sub load_refs
{
	%ref = ();
	foreach (split /\n/, sql("SELECT object_id, provider_id FROM billing.provider_refs WHERE object_type NOT IN ('subscription_item', 'charge')"))
	{
		my ($object, $id) = split /\|/;

		$ref{$object} = $id;
	}
}

sub id_of
{
	my ($cell, $name) = @_;

	return $cell->{$name} if $name =~ /^(n|provider|account)$/;
	return $cell->{id}{$name} // die "$cell->{label}, $cell->{account}: there is no $name";
}

sub there { return $ref{ id_of(@_) } // "nothing_$_[0]{n}" }

# The name of what the request is about.
sub about { return $_[0]{row}{about} || $_[0]{row}{call}[0] }

# Our ids for {name}, the provider's for <name>.
sub fill
{
	my ($cell, $text) = @_;

	$text =~ s/CURRENCY/$cell->{currency}/g;
	$text =~ s/\{(\w+)\}/id_of($cell, $1)/ge;
	$text =~ s/<(\w+)>/there($cell, $1)/ge;
	return $text;
}

# Runs [cell, name, expression] in one session; what comes back gets the name.
sub run_all
{
	my ($what, @calls) = @_;
	my $script = '';

	foreach my $i (0 .. $#calls)
	{
		my ($cell, $name, $expression) = @{ $calls[$i] };
		my $filled = fill($cell, $expression);

		$filled = "billing.$filled" if $filled !~ /^[(U]/;
		$script .= $filled =~ /^UPDATE/ ? "$filled;\n" : "SELECT $i, $filled;\n";
	}
	my (undef, $output, $errors) = $node->psql('postgres', encode_utf8($script), on_error_stop => 0);
	is($errors, '', $what);
	foreach (split /\n/, $output)
	{
		my ($i, $id) = split /\|/;
		my ($cell, $name) = @{ $calls[$i] };

		$cell->{id}{$name} = $id if $name ne '' && ($id // '') ne '';
	}
}

# A search may be late by a minute, and what moves money may still be at work; here that time passes at once.
sub let_a_minute_pass
{
	return sql(<<'SQL');
UPDATE billing.outbox SET sent_at = sent_at - interval '1 minute' WHERE error_type IN ('search_lag', 'may_be_at_work') AND sent_at > now() - interval '1 minute';
SELECT billing.retry_request(id) FROM billing.outbox WHERE error_type IN ('search_lag', 'may_be_at_work') AND state = 'unknown' AND next_attempt_at > now() + interval '2 seconds'
SQL
}

sub settle
{
	my ($what, $unfinished) = @_;

	return ok( poll_until(
			sub {
				let_a_minute_pass();
				return sql($unfinished) eq '0';
			},
			$what),
		$what)
	  || diag(sql("SELECT provider, account, operation, state, error_type, error_code, attempts FROM billing.outbox WHERE account <> 'closed' AND state <> 'dead' LIMIT 50"));
}

for (my $stage = 0; grep { defined } map { $_->{row}{before}[$stage] } @cells; $stage++)
{
	my @calls;

	load_refs();
	foreach my $cell (@cells)
	{
		my ($name, $what, $argument) = @{ $cell->{row}{before}[$stage] || next };

		if (ref $what) { $what->(there($cell, $argument), $cell) }
		else           { push @calls, [ $cell, $name, $what ] }
	}
	run_all("what has to be there, part $stage", @calls);
	settle("part $stage is there", "SELECT count(*) FROM billing.outbox WHERE state <> 'dead'");
	die 'what has to be there is not there' if sql("SELECT count(*) FROM billing.outbox") ne '0';
}

# ---- trouble ----

load_refs();
my $nobody = 'http://127.0.0.1:' . PostgreSQL::Test::Cluster::get_free_port();
configure($_, 'closed', $nobody) foreach keys %SECRET;
my $seen = $simulator->control('totals')->{requests};

sub fault_of
{
	my ($cell) = @_;
	my ($method, $path, $body) = map { fill($cell, $_) } @{ $cell->{row}{on} };
	my $fault = $FAULT{ $cell->{account} } or return;

	return { %$fault, match => { provider => $cell->{provider}, path => $path, $method ? (method => $method) : (), defined $body ? (body => $body) : () } };
}

# Whose request for the operation has not come to an end, but for those that cannot reach anybody.
my $UNFINISHED = <<'SQL';
SELECT count(*) FROM billing.outbox AS o JOIN public.cells AS c ON c.operation = o.operation AND c.object_id = o.object_id
WHERE o.state <> 'dead' AND (o.account <> 'closed' OR (o.attempts = 0 AND o.state = 'queued'))
SQL

sub call
{
	my (@some) = @_;

	$_->{since} = $simulator->control('totals')->{requests} foreach @some;
	$simulator->control('faults', [ map { fault_of($_) } @some ]);
	run_all('all the calls', map { [ $_, @{ $_->{row}{call} } ] } @some);
	sql('INSERT INTO public.cells VALUES ' . join ', ', map { "($_->{n}, '$_->{row}{operation}', '" . id_of($_, about($_)) . "', '$_->{account}')" } @some);
	settle('all of it comes to an end', $UNFINISHED);
	$_->{until} = $simulator->control('totals')->{requests} foreach @some;
}

sql("INSERT INTO billing.meters (metric) SELECT format('c%sx', lpad(i::text, 4, '0')) FROM generate_series(0, $#cells) AS i");
call(grep { !$_->{row}{alone} } @cells);
call($_) foreach grep { $_->{row}{alone} } @cells;

# ---- what has become of it ----

my %became;

sub see
{
	load_refs();
	%became = ();
	foreach (split /\n/, sql(<<'SQL'))
SELECT DISTINCT ON (c.cell) c.cell, o.state, o.error_type, o.error_code, billing.await(c.object_id, '0 seconds')
FROM public.cells AS c LEFT JOIN (
	SELECT operation, object_id, state, error_type, error_code, seq FROM billing.outbox
	UNION ALL SELECT operation, object_id, state, error_type, error_code, seq FROM billing.outbox_finished) AS o
ON o.operation = c.operation AND o.object_id = c.object_id ORDER BY c.cell, o.seq DESC
SQL
	{
		my ($cell, $state, $type, $code, $object) = split /\|/;

		$became{$cell} = { state => $state, error => join(' ', grep { $_ ne '' } $type, $code), object => $object };
	}
}

see();
my %requests;
push @{ $requests{ $_->{provider} } }, $_ foreach @{ $simulator->control("requests?after=$seen&limit=100000") };

# The requests of the cell that change something, as they came.
sub sendings
{
	my ($cell) = @_;
	my ($method, $path, $body) = map { fill($cell, $_) } @{ $cell->{row}{on} };

	$body //= '';
	return grep {
		$_->{path} =~ /$path/ && $_->{body} =~ /(?:$body)/ && ($method eq '' ? $_->{method} ne 'GET' : $_->{method} eq $method)
		  && $_->{seq} > $cell->{since} && $_->{seq} <= $cell->{until}
	} @{ $requests{ $cell->{provider} } };
}

sub outcome
{
	my ($cell) = @_;
	my $became = $became{ $cell->{n} };
	my $sent = sendings($cell);
	my $word = $became->{state};

	if ($word eq 'done' && $became->{error} ne '') { $word = 'declined' }
	elsif ($word eq 'done' && $sent > 1) { $word = 'again' }
	elsif ($word eq 'done' && $cell->{account} ne 'ok') { $word = $sent == 1 ? 'found' : 'not sent' }
	elsif ($cell->{account} eq 'closed') { $word = 'waits' if $word =~ /^(queued|waiting|sending)$/ && $sent == 0 }
	return "$word/$became->{object}";
}

sub in_columns { return join ' ', map { sprintf '%-' . $_[0] . 's', $_ } @_[ 1 .. $#_ ] }

my %expected = map { /^(\S+ \S+(?: finalize)?) +(.*)$/ ? ($1 => $2) : () } grep { !/^#/ } split /\n/, $TABLE;
my (%got, @labels);
foreach my $cell (@cells)
{
	push @labels, $cell->{label} unless $got{ $cell->{label} };
	$cell->{outcome} = outcome($cell);
	push @{ $got{ $cell->{label} } }, $cell->{outcome};
}
is_deeply([ sort keys %expected ], [ sort @labels ], 'every row of the table is tried');
foreach my $label (@labels)
{
	is(in_columns(1, @{ $got{$label} }), join(' ', split ' ', $expected{$label} // ''), $label);
}
diag("The table as it is:\n", map { sprintf "%-44s%s\n", $_, in_columns(22, @{ $got{$_} }) } @labels) if !Test::More->builder->is_passing;

# ---- the trouble is over ----

# What waits for its next attempt may be on its way by itself at this moment,
# and retry_request() refuses what is being sent: its time passes instead.
sql("SELECT billing.retry_request(id) FROM billing.outbox WHERE state = 'dead'");
configure($_, 'closed', $base{$_}) foreach keys %SECRET;
sql("UPDATE billing.outbox SET next_attempt_at = now() WHERE account = 'closed' AND state = 'queued'");
settle('what could not be done is done', "SELECT count(*) FROM billing.outbox AS o JOIN public.cells USING (operation, object_id)");
see();

# Those at the provider that a cell has made; each kind is fetched once.
my %objects;

sub count_made
{
	my ($cell) = @_;
	my ($kind, $field, $value) = fill($cell, $cell->{row}{made}) =~ /^(\w+)\?([\w.]+)=(.*)$/;
	my $counts = $objects{"$cell->{provider} $kind $field"};

	if (!$counts)
	{
		foreach my $object (@{ $simulator->control("objects/$kind?provider=$cell->{provider}") })
		{
			my $at = $object;

			$at = ref $at ? $at->{$_} : undef foreach split /\./, $field;
			$counts->{$at}++ if defined $at && !$object->{deleted};
		}
		$objects{"$cell->{provider} $kind $field"} = $counts ||= {};
	}
	return $counts->{$value} || 0;
}

my %ok = map { $_->{label} => "done/$became{ $_->{n} }{object}" } grep { $_->{account} eq 'ok' } @cells;
my (@ends, @counts, @unknown);
foreach my $cell (@cells)
{
	my $became = $became{ $cell->{n} };
	my $end = "$became->{state}/$became->{object}";
	my ($wanted, $count) = ($ok{ $cell->{label} }, 1);

	if ($cell->{outcome} =~ /^declined(.*)/) { ($wanted, $count) = ("done$1", 0) }
	elsif ($cell->{outcome} =~ /^dead/ && $NOT_RETRIED{ $cell->{row}{operation} }) { ($wanted, $count) = ('canceled/failed', 0) }
	push @ends, "$cell->{label}, $cell->{account}: $end, not $wanted" if $end ne $wanted;
	next if !$cell->{row}{made};
	push @counts, "$cell->{label}, $cell->{account}: " . count_made($cell) . ", not $count" if count_made($cell) != $count;
	push @unknown, "$cell->{label}, $cell->{account}" if $count && !$ref{ id_of($cell, about($cell)) };
}
is(join("\n", @ends), '', 'a retry does what was refused; what was declined is over');
is(join("\n", @counts), '', 'of what was made there is one, at every provider, after every trouble');
is(join("\n", @unknown), '', 'and its id is known here');

# ---- nothing is left out ----

my %tried = (%UNREACHED, map { ("$_->{provider} $_->{row}{operation}" => 1) } @cells);
is(join(' ', grep { !$tried{$_} && !/\.(fetch|list)$/ } split /\n/, sql("SELECT provider || ' ' || operation FROM billing.provider_capabilities() WHERE support = 'supported' AND provider <> 'sandbox'")),
	'', 'every operation that changes something is in the table');
is($simulator->control('violations')->{count}, 0, 'every request matches the document') or diag(explain($simulator->control('violations')));

done_testing();

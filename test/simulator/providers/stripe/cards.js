// Stripe's published test payment methods, as data: what happens when one is attached and when it is charged.
//
//   attach   null: works; otherwise the decline that the attach call answers with
//   charge   null: succeeds; 'authenticate': needs the customer; otherwise the decline of every charge
//   setup    'authenticate': needs the customer when it is set up for later
//   dispute  the charge is disputed at once: arguments of Refunds.dispute()
//   refund   what becomes of a refund: {status, later}
//   settle   of a bank debit after so many days: 'succeeded', 'disputed', 'never', or the bank's code

const decline = (code, declineCode, message) => ({ code, decline_code: declineCode, message });

const GENERIC = decline('card_declined', 'generic_decline', 'Your card was declined.');
const FUNDS = decline('card_declined', 'insufficient_funds', 'Your card has insufficient funds.');
const LOST = decline('card_declined', 'lost_card', 'Your card was declined.');
const STOLEN = decline('card_declined', 'stolen_card', 'Your card was declined.');
const FRAUD = decline('card_declined', 'fraudulent', 'Your card was declined.');
const EXPIRED = decline('expired_card', 'expired_card', 'Your card has expired.');
const CVC = decline('incorrect_cvc', 'incorrect_cvc', "Your card's security code is incorrect.");
const PROCESSING = decline('processing_error', 'processing_error', 'An error occurred while processing your card. Try again in a little bit.');

const card = (brand, last4, funding = 'credit', attach = null, charge = null, more = {}) => ({ type: 'card', brand, last4, funding, attach, charge, ...more });
const debit = (type, days, last4, settle) => ({ type, days, last4, settle, attach: null, charge: null });
const VISA = ['visa', '4242', 'credit', null, null];

export const TEST_METHODS = {
  pm_card_visa: card('visa', '4242'),
  pm_card_visa_debit: card('visa', '5556', 'debit'),
  pm_card_mastercard: card('mastercard', '4444'),
  pm_card_mastercard_debit: card('mastercard', '8210', 'debit'),
  pm_card_mastercard_prepaid: card('mastercard', '5100', 'prepaid'),
  pm_card_amex: card('amex', '8431'),
  pm_card_discover: card('discover', '1117'),
  pm_card_diners: card('diners', '0004'),
  pm_card_jcb: card('jcb', '0505'),
  pm_card_unionpay: card('unionpay', '0005'),
  pm_card_mx: card('visa', '8062'),
  pm_card_us: card('visa', '4242'),
  pm_card_chargeDeclined: card('visa', '0002', 'credit', GENERIC, GENERIC),
  pm_card_visa_chargeDeclined: card('visa', '0002', 'credit', GENERIC, GENERIC),
  pm_card_chargeDeclinedInsufficientFunds: card('visa', '9995', 'credit', FUNDS, FUNDS),
  pm_card_visa_chargeDeclinedInsufficientFunds: card('visa', '9995', 'credit', FUNDS, FUNDS),
  pm_card_visa_chargeDeclinedLostCard: card('visa', '9987', 'credit', LOST, LOST),
  pm_card_visa_chargeDeclinedStolenCard: card('visa', '9979', 'credit', STOLEN, STOLEN),
  pm_card_chargeDeclinedFraudulent: card('visa', '0019', 'credit', FRAUD, FRAUD),
  pm_card_chargeDeclinedExpiredCard: card('visa', '0069', 'credit', EXPIRED, EXPIRED),
  pm_card_chargeDeclinedIncorrectCvc: card('visa', '0127', 'credit', CVC, CVC),
  pm_card_chargeDeclinedProcessingError: card('visa', '0119', 'credit', PROCESSING, PROCESSING),
  pm_card_chargeCustomerFail: card('visa', '0341', 'credit', null, GENERIC),
  pm_card_authenticationRequired: card('visa', '3184', 'credit', null, 'authenticate'),
  pm_card_authenticationRequiredOnSetup: card('visa', '3155', 'credit', null, null, { setup: 'authenticate' }),
  pm_card_threeDSecure2Required: card('visa', '3220', 'credit', null, 'authenticate'),
  pm_card_createDispute: card(...VISA, { dispute: { reason: 'fraudulent' } }),
  pm_card_createDisputeInquiry: card(...VISA, { dispute: { reason: 'fraudulent', inquiry: true } }),
  pm_card_pendingRefund: card(...VISA, { refund: { status: 'pending', later: 'succeeded' } }),
  pm_card_refundFail: card(...VISA, { refund: { status: 'succeeded', later: 'failed' } }),
  pm_usBankAccount_success: debit('us_bank_account', 4, '6789', 'succeeded'),
  pm_usBankAccount_insufficientFunds: debit('us_bank_account', 4, '2222', 'insufficient_funds'),
  pm_usBankAccount_accountClosed: debit('us_bank_account', 4, '1113', 'account_closed'),
  pm_usBankAccount_dispute: debit('us_bank_account', 4, '3335', 'disputed'),
  pm_usBankAccount_processing: debit('us_bank_account', 4, '4449', 'never'),
  pm_success_de: debit('sepa_debit', 5, '3201', 'succeeded'),
  pm_failed_de: debit('sepa_debit', 5, '3202', 'debit_not_authorized'),
  pm_disputed_de: debit('sepa_debit', 5, '3203', 'disputed'),
};

export const AUTHENTICATION_REQUIRED = decline(
  'authentication_required',
  'authentication_required',
  'Your card was declined. This transaction requires authentication.',
);

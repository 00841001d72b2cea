/*-------------------------------------------------------------------------
 *
 * print_labels.c
 *	  The words of printed documents, in every language.
 *
 * One table: a language more is a column more, and a code below.  Letters that
 * are not ASCII are written as character references, because the page is made
 * in the encoding of the database, whatever that is.
 *
 *-------------------------------------------------------------------------
 */
#include "printing.h"

static const char *const codes[] = {"en", "es"};

#define LANGUAGES ((int) lengthof(codes))

static const char *const words[LABELS][LANGUAGES] = {
	[LABEL_INVOICE] = {"Invoice", "Factura"},
	[LABEL_CREDIT_NOTE] = {"Credit note", "Nota de cr&#233;dito"},
	[LABEL_STATEMENT] = {"Statement", "Estado de cuenta"},
	[LABEL_IS_THE_SELLER] =
		{"is the seller: it adds the tax and issues the invoice. This statement is neither an invoice nor a tax document.",
		 "es el vendedor: agrega los impuestos y emite la factura. Este estado de cuenta no es una factura ni un documento fiscal."},
	[LABEL_DRAFT] = {"Draft", "Borrador"},
	[LABEL_OPEN] = {"Open", "Pendiente"},
	[LABEL_PAID] = {"Paid", "Pagada"},
	[LABEL_VOID] = {"Void", "Anulada"},
	[LABEL_UNCOLLECTIBLE] = {"Uncollectible", "Incobrable"},
	[LABEL_TEST] = {"Test mode", "Modo de prueba"},
	[LABEL_NUMBER] = {"Number", "N&#250;mero"},
	[LABEL_STATUS] = {"Status", "Estado"},
	[LABEL_ISSUED] = {"Issue date", "Fecha de emisi&#243;n"},
	[LABEL_SUPPLY] = {"Supply period", "Periodo de servicio"},
	[LABEL_DUE_DATE] = {"Due date", "Fecha de vencimiento"},
	[LABEL_SELLER] = {"Seller", "Emisor"},
	[LABEL_CUSTOMER] = {"Customer", "Cliente"},
	[LABEL_TAX_ID] = {"Tax ID", "Identificaci&#243;n fiscal"},
	[LABEL_DESCRIPTION] = {"Description", "Descripci&#243;n"},
	[LABEL_PERIOD] = {"Period", "Periodo"},
	[LABEL_QUANTITY] = {"Quantity", "Cantidad"},
	[LABEL_UNIT_PRICE] = {"Unit price", "Precio unitario"},
	[LABEL_AMOUNT] = {"Amount", "Importe"},
	[LABEL_LINES] = {"Lines", "Conceptos"},
	[LABEL_FEES] = {"Fees", "Cuotas"},
	[LABEL_USAGE] = {"Usage", "Consumo"},
	[LABEL_CHANGES] = {"Changes during a period", "Cambios durante un periodo"},
	[LABEL_OTHER] = {"Other", "Otros"},
	[LABEL_SUMMARY] = {"Summary", "Resumen"},
	[LABEL_SUBTOTAL] = {"Subtotal", "Subtotal"},
	[LABEL_DISCOUNT] = {"Discount", "Descuento"},
	[LABEL_TAX] = {"Tax", "Impuesto"},
	[LABEL_TAX_BASE] = {"base", "base imponible"},
	[LABEL_INCLUDED] = {"included", "incluido"},
	[LABEL_TOTAL] = {"Total", "Total"},
	[LABEL_PREPAID] = {"Prepaid credit", "Cr&#233;dito prepagado"},
	[LABEL_BALANCE] = {"Balance", "Saldo"},
	[LABEL_AMOUNT_DUE] = {"Amount due", "Importe a pagar"},
	[LABEL_AMOUNT_PAID] = {"Paid", "Pagado"},
	[LABEL_CREDITED] = {"Taken off by credit notes", "Descontado por notas de cr&#233;dito"},
	[LABEL_REMAINING] = {"Remaining", "Pendiente de pago"},
	[LABEL_REVERSE_CHARGE] = {"Reverse charge: the customer accounts for the tax.",
							  "Inversi&#243;n del sujeto pasivo: el cliente liquida el impuesto."},
	[LABEL_EXEMPT] = {"Exempt from tax.", "Exento de impuestos."},
	[LABEL_PAYMENTS] = {"Payments", "Pagos"},
	[LABEL_DATE] = {"Date", "Fecha"},
	[LABEL_METHOD] = {"Method", "M&#233;todo"},
	[LABEL_REFUND] = {"Refund", "Reembolso"},
	[LABEL_OTHER_MEANS] = {"Other means", "Otro medio"},
	[LABEL_CREDIT_NOTES] = {"Credit notes", "Notas de cr&#233;dito"},
	[LABEL_NOTE] = {"Note", "Nota"},
	[LABEL_CORRECTS] = {"Corrects invoice", "Rectifica la factura"},
	[LABEL_REASON] = {"Reason", "Motivo"},
	[LABEL_REQUESTED] = {"Requested by the customer", "A petici&#243;n del cliente"},
	[LABEL_DUPLICATE] = {"Billed twice", "Facturado dos veces"},
	[LABEL_FRAUDULENT] = {"Fraud", "Fraude"},
	[LABEL_DISRUPTION] = {"Disruption of the service", "Interrupci&#243;n del servicio"},
	[LABEL_GUARANTEE] = {"Satisfaction guarantee", "Garant&#237;a de satisfacci&#243;n"},
	[LABEL_TO_AMOUNT_DUE] = {"Taken off the amount due", "Descontado del importe a pagar"},
	[LABEL_TO_BALANCE] = {"Added to the balance", "A&#241;adido al saldo"},
	[LABEL_TO_REFUND] = {"Paid back", "Reembolsado"},
	[LABEL_SETTLED] = {"Settled", "Liquidaci&#243;n"},
	[LABEL_ZONE] = {"Dates are days in the time zone", "Fechas seg&#250;n la zona horaria"},
	[LABEL_NO_FISCAL_DOCUMENT] =
		{"This is not a fiscal document: neither a CFDI nor an electronic invoice.",
		 "Este documento no es un comprobante fiscal: ni CFDI ni factura electr&#243;nica."},
};

int
print_language(const char *locale)
{
	for (int i = 0; locale != NULL && i < LANGUAGES; i++)
	{
		size_t length = strlen(codes[i]);

		if (pg_strncasecmp(locale, codes[i], length) == 0 &&
			strchr("-_.", locale[length]) != NULL) /* the NUL at its end, too */
			return i;
	}
	return 0;
}

const char *
print_language_code(int language)
{
	return codes[language];
}

const char *
label_in(int language, Label label)
{
	Assert(label < LABELS);
	return words[label][language];
}

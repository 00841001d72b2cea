/*
 * webhook_vectors.h
 *		Signed webhooks, one row each, made with openssl and Python and accepted
 *		or refused by the providers' own libraries (stripe 23.1.0, @polar-sh/sdk
 *		1.0.1, standardwebhooks 1.1.1) and by openssl dgst -verify.
 *
 * P5 is the reference vector of the Standard Webhooks project.
 */
#ifndef JANUA_BILLING_WEBHOOK_VECTORS_H
#define JANUA_BILLING_WEBHOOK_VECTORS_H

#include <stdint.h>

typedef struct StripeVector
{
	const char *name;
	const char *secret;
	int64_t t;
	const char *body;
	const char *header;
} StripeVector;

typedef struct PolarVector
{
	const char *name;
	const char *secret;
	const char *id;
	int64_t t;
	const char *body;
	const char *signature;
} PolarVector;

typedef struct ConektaVector
{
	const char *name;
	const char *body; /* NULL: the body of C1 */
	const char *digest;
} ConektaVector;

static const StripeVector stripe_vectors[] = {
	{"S1", "whsec_test_secret", 1700000000,
	 "{\"id\":\"evt_1\",\"object\":\"event\",\"type\":\"invoice.paid\"}",
	 "t=1700000000,v1=dfb4777aaaec4ea29ff455dd4df7fe6b2ef71096ad3a93a158db7e100109ea91"},
	{"S2", "whsec_test_secret", 1700000000,
	 "{\n  \"id\": \"evt_2\",\n  \"object\": \"event\",\n  \"data\": {\"object\": {\"name\": \"Ni\303\261o \303\234n\303\257code \342\234\223\"}}"
	 "\n}\n",
	 "t=1700000000,v1=9693ab007a1055ddca527f173329d33b024efa92ca73d24cbddacb1f829f98b9"},
	{"S3", "whsec_5WbX5kEWLlfzsGNjH64I8lOOqUB6e8FH", 1700000000,
	 "{\"id\":\"evt_3\",\"object\":\"event\",\"type\":\"customer.subscription.deleted\",\"data\":{\"object\":{"
	 "\"id\":\"sub_1\",\"status\":\"canceled\"}}}",
	 "t=1700000000,v1=dee004f11d0b925064d722a242fe9eb5c2f43a801e55d0e508bf2bcf2489ea1f"},
};

static const PolarVector polar_vectors[] = {
	/* key: utf8(secret) */
	{"P1", "polar_whs_ExampleSecret0123456789ABCDEFabcdef", "msg_p5jXN8AQM9LWM0D4loKWxJek",
	 1700000000,
	 "{\"type\":\"order.paid\",\"timestamp\":\"2023-11-14T22:13:20Z\",\"data\":{\"id\":\"a1\"}}",
	 "v1,2i5zDOmoZBWfA/RFC4Oucj5DF0NsfDNDEUXYDiGmQHw="},
	/* key: utf8(secret) */
	{"P2", "whsec_ovyN6cPrTv56AApvzCaJno08SSmGJmgbWilb33N2JuK", "msg_p5jXN8AQM9LWM0D4loKWxJek",
	 1700000000,
	 "{\"type\":\"order.paid\",\"timestamp\":\"2023-11-14T22:13:20Z\",\"data\":{\"id\":\"a1\"}}",
	 "v1,LUcwr8zpTQ7Lgm5FJmItTVjkwOqriRWwc0mp4gfIXwU="},
	/* key: base64decode(secret minus whsec_) */
	{"P3", "whsec_ovyN6cPrTv56AApvzCaJno08SSmGJmgbWilb33N2JuK", "msg_p5jXN8AQM9LWM0D4loKWxJek",
	 1700000000,
	 "{\"type\":\"order.paid\",\"timestamp\":\"2023-11-14T22:13:20Z\",\"data\":{\"id\":\"a1\"}}",
	 "v1,LyTdvizkbLuS9qlviF1yMwPWliyhZvlTpHYDhxEGK0g="},
	/* key: utf8(secret) */
	{"P4", "polar_whs_ExampleSecret0123456789ABCDEFabcdef", "3fa85f64-5717-4562-b3fc-2c963f66afa6",
	 1700000000,
	 "{\n  \"id\": \"evt_2\",\n  \"object\": \"event\",\n  \"data\": {\"object\": {\"name\": \"Ni\303\261o \303\234n\303\257code \342\234\223\"}}"
	 "\n}\n",
	 "v1,ofi9Q/ih2tvFVD77IHFRJ4JMosfry8/dCjLXQZEoGvU="},
	/* key: base64decode(secret minus whsec_) */
	{"P5", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330,
	 "{\"test\": 2432232314}", "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="},
};

/* signed by the key below, except for the CN rows */
static const ConektaVector conekta_vectors[] = {
	{"C1",
	 "{\"data\":{\"object\":{\"id\":\"ord_1\",\"payment_status\":\"paid\",\"amount\":10000,\"currency\":\"MXN\","
	 "\"object\":\"order\"},\"previous_attributes\":{}},\"livemode\":false,\"id\":\"6307a60c41de27127515a"
	 "575\",\"object\":\"event\",\"type\":\"order.paid\",\"created_at\":1661445644}",
	 "2HdZMja721gbHNfWL3hJkt0JhGzdqyRrve2CzSOQNSVJ59MnHCRd9YsEq6JTOlDg7BuaZr2y5AR+txFCzxYiUDTV"
	 "aSy4yRk4SjLb8/jQiLWdH8/6/242OrbekzdSG5YGx2x5FE0GFTfnoQDsdOcJnm2YvScMVXp86sE7XfrUfvIzv2aU"
	 "+I855A5VwvEP3Ry3uV+iCwHL/qELx63fnl1zmhliw0LZQ9yOKCmP7WetPTgnENLYbvbXaD+zq3qw90FknNn/4Q8C"
	 "oQXTAAF9Rhw8W3T9gcpO8UWOzDsy4hqxS04CEJ/5PnNqyBlhagR/+6k0xuQY42S+6/KoR7LYTG7B4A=="},
	{"C2",
	 "{\"data\":{\"object\":{\"id\":\"ch_1\",\"status\":\"refunded\",\"object\":\"charge\"}},\"id\":\"6307a60c41d"
	 "e27127515a576\",\"object\":\"event\",\"type\":\"charge.refunded\",\"created_at\":1661445700}",
	 "O+oZwuU92KBZKTfhUKE56REoXQKWtqGUSL/dqAdcZnU/8WcHGFDBH8BfghcrjYUbWDZFEbUHpKdkRYh/360bf8OP"
	 "o5UAETEbGj4JVtKnU+2aQB33O65ogpzkclCJeK9zwOgnCl8UVsdgxDbp1IqjhKvceYP9FMbRNj1ScpaS5SeAkDic"
	 "03e5tEifQ2WG9BT/LO4xIgzc6duMeGMegnh47tXevD+EzpRM1LbMY6nJNf3YX8arsFaEnBxuuAXJoJiEjg+MVRnO"
	 "0MqdeKB8kAbgbP2Awsl6VBDoqvr9Qy+zAlomIBONcLVFxMgOqMERygFd4cpNHCKU6/N5D9rVygPccg=="},
	{"C3",
	 "{\"data\":{\"action\":\"ping\",\"livemode\":true},\"id\":\"6307a60c41de27127515a577\",\"object\":\"even"
	 "t\",\"type\":\"webhook_ping\",\"note\":\"\303\223rden cancelada \342\234\223\"}",
	 "wz59cHeJICbvmvtehuN9Kz5TR4jDva1dCmBJXTLGy9NnX5qe0F6hvNLInogt3lIHkGJfj+2vO3YFqtdd2OfOKvKj"
	 "LOnr67Fum6jCEhFFQR4Rx8b4hekBZZ/1LuUwxnKoHX6i3pHJgMXkg5mmE7Ny+S34O78HnzqgxV9/ejbploDH5WLf"
	 "cm+CZAReaZKGpCOfkRORkqIdtg1P0qwGQ9ZJts32nO/D1g67jooeN6LhQkxmrI2Qpg3v7/58fS8HlwUDImIdEldE"
	 "mvDCGdr9RAEzTqbjgLsAGte6sTl/5RD6tDnU4M5kE5Rg22+9hgORmTh3fc/m8CS5OBohFGkLFRindw=="},
	/* to be refused: signed by another key */
	{"CN1", NULL,
	 "Qsx/SJOwRBfuJM6IWx14Y3tmCsaxEPBKiQ+abt0p4kCtIL7UVdm4c68vvuVXMmUJXa0yYkQ+NRa5G5LxTplWs6fU"
	 "3O0OgMqpgvb/6qidtO2FRjuSvzEHPeIahJDLOXU9V7BUrG452IYSgKOof2qErU5+SC9xkIICXxxK9zZjpH62WtoB"
	 "nrbjnwyS+TlEZxPJulscuQ7AiiCKXrauFc9QRXtNPB5xVJSOAtHg+Sz7OfFIx3UaZnzNds9bY8tvZ0BfB6cTtqrl"
	 "Sgg76GBkwkPjr1yylaHnZ670CIY8U6TOm6OUgvIN901KaJNw6Hd3kfO4SQodoaXv+MnOwOcEEC3ckg=="},
	/* to be refused: SHA-1 in place of SHA-256 */
	{"CN2", NULL,
	 "WlVILMqvJOu6SRVVIrKJwbfhLL1aeEMRFEqqU2RJPF41lJxNZ/WQAangaOdNKgXDHwArdhowQY0MD5U8cgCz148Z"
	 "zD5iuOdSwHUy3xlCv96ZsPCeDcEkxQZGKOUXOb9aBqPhASjsOmFnYbCE1OlDa3jEK7zL+pT7nm38IIGXDLX+Oeu0"
	 "e79rFboDrTc0olDVuDCHYxiHIeJLQ6I2Rs9bi2gmXq1XumkSD0AtuS4zm3WIWcLfKxTV55n0jEhMKAjDEhR4WF2r"
	 "91cI2DYmoen6BE+UbPsathTARDu4wwA9aAhkhD4Y0rPTnIS7dTYXClhRLlw7DDrU11gTVvDGab2yDg=="},
	/* to be refused: PSS padding */
	{"CN3", NULL,
	 "bct0zLv5Nweq2F85ImCnx5Gh6bGc45vR6KsgocrkNn6T933gGkuF71aGPURiJ0hLDzQf9hT/pAbqyl9+SyjyLJ3x"
	 "biqkr3SEud0qP1RyieL53vL6zBSw/wYLuddboA+QTDRSuhoaYB8iJ/IvClAsRUvHU1Yn8eDtNCuqmn0Xsxj6W9Ux"
	 "OyojseM+CB3J+dpiPqMxI1MNR8myybswUfHS9+FSpdxu8okwhNbQb1IM/D7QhVDeHjWUTg9mbjLVO1PIJojdoCTZ"
	 "K3VE8HIJVF7vnWRiUGR/YHeDxlmrhsFr3g/Ggu226rG6WaHqAalAbvlOk2UugpANPYgwU2P0F1ALow=="},
};

static const char conekta_public_key[] =
	"-----BEGIN PUBLIC KEY-----\n"
	"MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEA41i7nYFFnlN7//sp9IbR\n"
	"KyFx01s/A00rZ77ZT4l4zsGJ8tuUKXxbu4UhsM89AACaxz4r+R9RGptMlOSxU57V\n"
	"W2tXLzqt0RCAR1mSIHvGo98es87pNuN2i0ZPB2GdAdvX2w04G+qqL2jH2kAIOFH4\n"
	"XkgIetwJqrap8jomf4grYd17TFeBh4u3p3IIuLSv2eeepZg+5BVQHKDnCkRSa7q3\n"
	"FlbLQMJDEuLi45pVLMVaZG4Bzr699pnS0/X5ZMvtBSclaaX1KpyENbkQASCmQRB3\n"
	"udIvyj5nHYicxFpFG/BHw2Nl62Rx1H0zhXuVonX0ZowBWdhPAzxc36pQeeVAavFx\n"
	"/QIDAQAB\n"
	"-----END PUBLIC KEY-----\n";

#endif /* JANUA_BILLING_WEBHOOK_VECTORS_H */

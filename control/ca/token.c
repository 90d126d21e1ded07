/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "control/ca/ca.h"
#include "control/ca/crypto.h"
#include "control/ca/x509.h"
#include <wolfssl/wolfcrypt/sha256.h>

#define PREFIX "SWMTKN-1-"
#define DIGEST_CHARS 50
#define SECRET_CHARS 25
#define PREFIX_CHARS (sizeof(PREFIX) - 1)
#define TOKEN_CHARS (PREFIX_CHARS + DIGEST_CHARS + 1 + SECRET_CHARS)

/* The digest as one big number in base 36, as swarmkit writes it: most significant first, padded to 50. */
static void digest_text(const struct bytes *root, char out[DIGEST_CHARS + 1])
{
	uint8_t d[WC_SHA256_DIGEST_SIZE];
	/* While the root is rotated the newest stands first: tokens pin that one. */
	if (wc_Sha256Hash(root->p, (word32)x509_first(root->p, root->n), d))
		abort(); /* fails only without memory */
	for (int i = DIGEST_CHARS - 1; i >= 0; i--) {
		unsigned rest = 0;
		for (size_t j = 0; j < sizeof(d); j++) {
			unsigned v = rest << 8 | d[j];
			d[j] = (uint8_t)(v / 36);
			rest = v % 36;
		}
		out[i] = "0123456789abcdefghijklmnopqrstuvwxyz"[rest];
	}
	out[DIGEST_CHARS] = '\0';
}

static bool same(const char *a, const char *b, size_t n)
{
	unsigned diff = 0;
	for (size_t i = 0; i < n; i++)
		diff |= (unsigned)(a[i] ^ b[i]);
	return diff == 0;
}

void ca_token_make(const struct bytes *root_cert, struct mesh_rng *rng, char out[128])
{
	char digest[DIGEST_CHARS + 1], secret[SECRET_CHARS + 1];
	digest_text(root_cert, digest);
	mesh_base36_make(rng, secret, SECRET_CHARS);
	snprintf(out, 128, PREFIX "%s-%s", digest, secret);
	mesh_wipe(secret, sizeof(secret));
}

static bool base36(const char *s, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (!((s[i] >= '0' && s[i] <= '9') || (s[i] >= 'a' && s[i] <= 'z')))
			return false;
	return true;
}

int ca_token_check_form(const char *token, struct mesh_err *err)
{
	size_t n = token ? strnlen(token, TOKEN_CHARS + 1) : 0;
	if (!n)
		return mesh_fail(err, MESH_E_INVALID, "invalid join token: it is empty");
	if (strncmp(token, "SWMTKN-", 7))
		return mesh_fail(err, MESH_E_INVALID, "invalid join token: it does not begin with SWMTKN-1-");
	if (strncmp(token, PREFIX, PREFIX_CHARS))
		return mesh_fail(err, MESH_E_INVALID, "invalid join token: only version 1 (SWMTKN-1-) is supported");
	if (n != TOKEN_CHARS)
		return mesh_fail(err, MESH_E_INVALID, "invalid join token: it is too %s (%zu characters make one)",
		                 n < TOKEN_CHARS ? "short" : "long", TOKEN_CHARS);
	if (token[PREFIX_CHARS + DIGEST_CHARS] != '-' || !base36(token + PREFIX_CHARS, DIGEST_CHARS) ||
	    !base36(token + PREFIX_CHARS + DIGEST_CHARS + 1, SECRET_CHARS))
		return mesh_fail(err, MESH_E_INVALID,
		                 "invalid join token: 50 and 25 characters of a-z and 0-9 must follow SWMTKN-1-");
	return 0;
}

bool ca_token_pins(const char *token, const struct bytes *root_cert)
{
	char digest[DIGEST_CHARS + 1];
	if (ca_token_check_form(token, NULL) || !root_cert->n)
		return false;
	digest_text(root_cert, digest);
	return same(token + PREFIX_CHARS, digest, DIGEST_CHARS);
}

bool ca_token_equal(const char *a, const char *b)
{
	if (ca_token_check_form(a, NULL) || ca_token_check_form(b, NULL))
		return false;
	return same(a, b, TOKEN_CHARS);
}

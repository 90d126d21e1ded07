/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "dataplane/dp.h"

#include <errno.h>
#include <nftables/libnftables.h>

int dp_ruleset_json(struct buf *out, struct mesh_err *err)
{
	struct nft_ctx *ctx = nft_ctx_new(NFT_CTX_DEFAULT);
	if (!ctx)
		return mesh_fail(err, -ENOMEM, "libnftables");
	nft_ctx_output_set_flags(ctx, NFT_CTX_OUTPUT_JSON | NFT_CTX_OUTPUT_TERSE | NFT_CTX_OUTPUT_HANDLE);
	int rc = nft_ctx_buffer_output(ctx) || nft_ctx_buffer_error(ctx) ? -ENOMEM : 0;
	if (!rc && nft_run_cmd_from_buffer(ctx, "list ruleset"))
		rc = -EIO;
	if (!rc)
		buf_puts(out, nft_ctx_get_output_buffer(ctx));
	nft_ctx_free(ctx);
	return rc ? mesh_fail(err, rc, "listing the nftables ruleset") : 0;
}

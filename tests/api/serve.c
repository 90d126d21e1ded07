/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The API over a cluster in memory, for the real docker client: serve SOCKET. Ends with its standard input. */
#include "tests/support/api_server.h"

static struct server server;

static void on_input(uv_stream_t *h, ssize_t n, const uv_buf_t *b)
{
	(void)b;
	if (n >= 0)
		return;
	uv_close((uv_handle_t *)h, NULL);
	uv_async_send(&server.stop);
}

static void give_room(uv_handle_t *h, size_t hint, uv_buf_t *b)
{
	static char room[256];
	(void)h;
	(void)hint;
	*b = uv_buf_init(room, sizeof(room));
}

int main(int argc, char **argv)
{
	struct mesh_err err = { 0 };
	uv_pipe_t in;
	if (argc != 2 || server_open(&server, argv[1], &err)) {
		fprintf(stderr, "serve: %s\n", argc == 2 ? err.msg : "usage: serve SOCKET");
		return 1;
	}
	uv_pipe_init(&server.loop, &in, 0);
	uv_pipe_open(&in, 0);
	uv_read_start((uv_stream_t *)&in, give_room, on_input);
	printf("listening\n");
	fflush(stdout);
	server_run(&server);
	return 0;
}

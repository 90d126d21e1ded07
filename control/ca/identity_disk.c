/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#include "base/mem.h"
#include "control/ca/crypto.h"
#include "control/ca/identity.h"
#include "control/ca/x509.h"

#define FILE_MAX_BYTES (256 << 10)
#define PEM_MAX_BLOCKS 16

/* ---- writing ----------------------------------------------------------------------------------- */

static int write_all(int fd, const struct buf *b)
{
	for (size_t off = 0; off < b->len;) {
		ssize_t n = write(fd, b->data + off, b->len - off);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n ? -errno : -EIO;
		off += (size_t)n;
	}
	return fsync(fd) ? -errno : 0;
}

static int write_file(const char *dir, const char *name, const struct buf *b, struct mesh_err *err)
{
	CLEAN_FREE char *path = xasprintf("%s/%s", dir, name);
	CLEAN_FREE char *tmp = xasprintf("%s/.%s.new", dir, name);
	int fd = open(tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return mesh_fail(err, -errno, "%s", tmp);
	int rc = fchmod(fd, 0600) ? -errno : write_all(fd, b);
	if (close(fd) && !rc)
		rc = -errno;
	if (!rc && rename(tmp, path))
		rc = -errno;
	if (!rc)
		return 0;
	(void)unlink(tmp); /* the write's own error is the one to tell */
	return mesh_fail(err, rc, "%s", path);
}

static int sync_dir(const char *dir, struct mesh_err *err)
{
	CLEAN_CLOSE int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0 || fsync(fd))
		return mesh_fail(err, -errno, "%s", dir);
	return 0;
}

static void put_pem(struct buf *out, const struct bytes *der, size_t off, size_t n, int type)
{
	uint8_t *at = buf_reserve(out, n * 2 + 128);
	int len = wc_DerToPem(der->p + off, (word32)n, at, (word32)(n * 2 + 128), type);
	if (len > 0)
		out->len += (size_t)len;
}

static void put_roots(struct buf *out, const struct bytes *root)
{
	for (size_t off = 0, n; off < root->n; off += n) {
		n = x509_first(root->p + off, root->n - off);
		if (!n)
			return;
		put_pem(out, root, off, n, CERT_TYPE);
	}
}

int net_identity_save(const struct net_identity *id, const char *dir, struct mesh_err *err)
{
	const struct bytes *root = net_identity_root(id), *cert = net_identity_cert(id), *key = net_identity_key(id);
	struct buf root_pem = { 0 }, cert_pem = { 0 }, all = { 0 };
	if (mkdir(dir, 0700) && errno != EEXIST)
		return mesh_fail(err, -errno, "%s", dir);
	put_roots(&root_pem, root);
	put_pem(&cert_pem, cert, 0, cert->n, CERT_TYPE);
	(void)buf_reserve(&all, key->n * 2 + root_pem.len + cert_pem.len + 512); /* the key is not left in old copies */
	put_pem(&all, key, 0, key->n, ECC_PRIVATEKEY_TYPE);
	buf_put(&all, cert_pem.data, cert_pem.len);
	buf_put(&all, root_pem.data, root_pem.len);
	int rc = write_file(dir, "node.key", &all, err);
	if (!rc)
		rc = write_file(dir, "node.crt", &cert_pem, err);
	if (!rc)
		rc = write_file(dir, "root.crt", &root_pem, err);
	if (!rc)
		rc = sync_dir(dir, err);
	mesh_wipe(all.data, all.len);
	buf_fini(&all);
	buf_fini(&cert_pem);
	buf_fini(&root_pem);
	return rc;
}

/* ---- reading ----------------------------------------------------------------------------------- */

static int read_file(const char *path, char **out, struct mesh_err *err)
{
	struct stat st;
	CLEAN_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st))
		return mesh_fail(err, -errno, "%s", path);
	if (st.st_size <= 0 || st.st_size > FILE_MAX_BYTES)
		return mesh_fail(err, MESH_E_CORRUPT, "%s: %lld bytes", path, (long long)st.st_size);
	char *text = xcalloc(1, (size_t)st.st_size + 1);
	for (size_t off = 0; off < (size_t)st.st_size;) {
		ssize_t n = read(fd, text + off, (size_t)st.st_size - off);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0) {
			int rc = mesh_fail(err, n ? -errno : -EIO, "%s", path);
			mesh_wipe(text, off);
			free(text);
			return rc;
		}
		off += (size_t)n;
	}
	*out = text;
	return 0;
}

struct pem_parts {
	struct bytes key, cert, root; /* root: all certificates after the first */
};

static void parts_clear(struct pem_parts *p)
{
	crypto_secret_clear(&p->key);
	free(p->cert.p);
	free(p->root.p);
}

static int take_key(struct pem_parts *out, const char *pem, size_t n)
{
	uint8_t der[256];
	int len = wc_KeyPemToDer((const byte *)pem, (int)n, der, sizeof(der), NULL);
	if (len > 0 && !out->key.n)
		bytes_set(&out->key, der, (size_t)len);
	mesh_wipe(der, sizeof(der));
	return len > 0 ? 0 : MESH_E_CORRUPT;
}

static int take_cert(struct pem_parts *out, const char *pem, size_t n)
{
	CLEAN_FREE uint8_t *der = xcalloc(1, n);
	int len = wc_CertPemToDer((const byte *)pem, (int)n, der, (int)n, CERT_TYPE);
	if (len <= 0)
		return MESH_E_CORRUPT;
	if (!out->cert.n) {
		bytes_set(&out->cert, der, (size_t)len);
		return 0;
	}
	out->root.p = xrealloc(out->root.p, out->root.n + (size_t)len);
	memcpy(out->root.p + out->root.n, der, (size_t)len);
	out->root.n += (size_t)len;
	return 0;
}

static int parse_parts(const char *text, struct pem_parts *out)
{
	const char *at = text;
	for (int i = 0; i < PEM_MAX_BLOCKS; i++) {
		const char *begin = strstr(at, "-----BEGIN "), *end = begin ? strstr(begin, "-----END ") : NULL;
		const char *stop = end ? strchr(end, '\n') : NULL;
		if (!begin)
			break;
		if (!stop)
			return MESH_E_CORRUPT;
		bool cert = !strncmp(begin, "-----BEGIN CERTIFICATE-----", 27);
		size_t n = (size_t)(stop + 1 - begin);
		int rc = cert ? take_cert(out, begin, n) : take_key(out, begin, n);
		if (rc)
			return rc;
		at = stop + 1;
	}
	return out->key.n && out->cert.n && out->root.n ? 0 : MESH_E_CORRUPT;
}

int net_identity_load(const char *dir, struct net_identity **out, struct mesh_err *err)
{
	CLEAN_FREE char *path = xasprintf("%s/node.key", dir);
	struct pem_parts parts = { 0 };
	char *text = NULL;
	int rc = read_file(path, &text, err);
	if (rc)
		return rc;
	crypto_init();
	rc = parse_parts(text, &parts);
	mesh_wipe(text, strlen(text));
	free(text);
	if (rc)
		rc = mesh_fail(err, rc, "%s: must hold a key, the node's certificate and the root, as PEM", path);
	else if ((rc = net_identity_new(&parts.root, &parts.cert, &parts.key, out, err)))
		rc = mesh_wrap(err, rc, "%s", path);
	parts_clear(&parts);
	return rc;
}

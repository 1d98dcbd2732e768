/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Runs a fuzz body over its committed inputs and prints TAP, so that `make check` keeps it alive.
 *
 * The inputs of fuzz_NAME are the files of tests/fuzz/seeds/NAME under $srcdir, and the truncated
 * halves of each. A crash, a sanitizer report or an unreadable file fails.
 */
#include <dirent.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define INPUT_MAX (1u << 20)
#define FILES_MAX 4096u

static int compare(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static int run_file(const char *dir, const char *name)
{
	static uint8_t input[INPUT_MAX];
	char path[4096];
	size_t n;
	FILE *f;

	snprintf(path, sizeof path, "%s/%s", dir, name);
	f = fopen(path, "rb");
	if (!f)
		return -errno;
	n = fread(input, 1, sizeof input, f);
	fclose(f);
	for (size_t cut = n;; cut /= 2) {
		/* A copy of the exact size: reading past its end is seen by the address sanitizer.
		 */
		uint8_t *copy = malloc(cut ? cut : 1);

		if (!copy)
			return -ENOMEM;
		memcpy(copy, input, cut);
		LLVMFuzzerTestOneInput(copy, cut);
		free(copy);
		if (!cut)
			return 0;
	}
}

int main(int argc, char **argv)
{
	const char *srcdir = getenv("srcdir"), *slash = strrchr(argv[0], '/');
	const char *self = slash ? slash + 1 : argv[0];
	static char *names[FILES_MAX];
	size_t n = 0, failed = 0;
	char dir[2048];
	struct dirent *entry;
	DIR *d;

	(void)argc;
	if (!strncmp(self, "fuzz_", 5))
		self += 5;
	snprintf(dir, sizeof dir, "%s/tests/fuzz/seeds/%s", srcdir ? srcdir : ".", self);
	d = opendir(dir);
	if (!d) {
		printf("1..1\nnot ok 1 - %s cannot be read: %s\n", dir, strerror(errno));
		return 1;
	}
	while (n < FILES_MAX && (entry = readdir(d)))
		if (entry->d_name[0] != '.' && (names[n] = strdup(entry->d_name)))
			n++;
	closedir(d);
	qsort(names, n, sizeof names[0], compare);
	printf("1..%zu\n", n);
	for (size_t i = 0; i < n; i++) {
		int r = run_file(dir, names[i]);

		printf("%sok %zu - %s\n", r ? "not " : "", i + 1, names[i]);
		fflush(stdout);
		failed += r != 0;
		free(names[i]);
	}
	return failed != 0;
}

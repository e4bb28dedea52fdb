/* SPDX-License-Identifier: GPL-2.0 */
/* What the files of the module share: a word that can be written to /proc/crasher, and what it does. */
struct word {
	const char *word;
	void (*act)(void);
};

extern const struct word more_words[];
extern const int more_count;
extern const struct word late_words[];
extern const int late_count;

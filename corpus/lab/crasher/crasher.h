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
extern const struct word misled_words[];
extern const int misled_count;
extern void crash_on_exit(void);

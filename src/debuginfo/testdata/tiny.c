/* A program of two files, for tests of the DWARF reader. `make.sh` compiles it in several ways. */
#include "tiny.h"

enum colour { RED, GREEN = 5, BLUE };
enum signed_colour { DARK = -1, LIGHT = 200 };

struct bits {
	unsigned int low : 3;
	int high : 5;
	unsigned long wide : 40;
	unsigned char whole;
	_Bool flag : 1;
};

struct outer {
	struct node list;
	union {
		long number;
		struct {
			short x, y;
		} point;
	};
	struct bits bits;
	enum colour colour;
	char matrix[2][3];
	const char *const name;
	int (*handler)(struct outer *self, unsigned int, ...);
	struct elsewhere *other;
	struct unknown *unknown;
	int tail[];
};

typedef struct outer outer_t;

extern int counted[];
int counted[4] = { 1, 2, 3, 4 };
static volatile long shared = 7;
struct outer *current_outer;
enum signed_colour mood = DARK;

static inline __attribute__((always_inline)) int twice(int value)
{
	shared += value;
	return value * 2;
}

int compute(outer_t *self, int value)
{
	current_outer = self;
	return twice(value) + counted[value & 3];
}

void _start(void)
{
	compute(0, elsewhere_count(0));
	for (;;)
		;
}

struct node {
	struct node *next, **prev;
};
struct elsewhere;
int elsewhere_count(const struct elsewhere *e);

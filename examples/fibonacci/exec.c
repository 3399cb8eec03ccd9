/* The docker skeleton's convention: arguments as JSON in argv[1], the last line of stdout is the result.
   {"n": 10} -> {"n": 10, "fibonacci": 55} */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int main(int argc, char **argv) {
  const char *found = argc > 1 ? strstr(argv[1], "\"n\":") : NULL;
  long n = found ? strtol(found + 4, NULL, 10) : 0;
  if (n < 0 || n > 90) {
    puts("{\"error\":\"n must be between 0 and 90\"}");
    return 0;
  }
  unsigned long long previous = 0, current = 1;
  for (long i = 0; i < n; i++) {
    unsigned long long next = previous + current;
    previous = current;
    current = next;
  }
  printf("computed in %ld steps\n", n);
  printf("{\"n\":%ld,\"fibonacci\":%llu}\n", n, previous);
  return 0;
}

/**
 * A label's values as a metric may have them: so many, by who came first, and one word for all the rest. For values in which
 * callers have a say, as every one that a registry has seen stays in memory and is sent at each scrape.
 */
export function createBoundedLabel(most: number): (value: string) => string {
  const seen = new Set<string>();
  return (value) => {
    if (seen.has(value)) return value;
    if (seen.size >= most) return OTHER;
    seen.add(value);
    return value;
  };
}

const OTHER = "other";

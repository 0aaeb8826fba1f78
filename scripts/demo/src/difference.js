// Finds the words in which two texts differ.

/** The most pairs of words that are compared. In larger texts, everything between the first and the last difference is marked. */
const MOST_PAIRS = 250_000;

/** Returns both texts as parts, `{text, isShared}`: words that both have in this order, and words that only one has. */
export function difference(one, other) {
  const [a, b] = [words(one), words(other)];
  let begin = 0;
  while (begin < a.length && begin < b.length && a[begin] === b[begin]) begin += 1;
  let end = 0;
  while (end < a.length - begin && end < b.length - begin && a.at(-1 - end) === b.at(-1 - end)) end += 1;
  const middle = (list) => list.slice(begin, list.length - end);
  const [sharedInA, sharedInB] = common(middle(a), middle(b));
  const parts = (list, shared) => join(list.map((text, at) => ({ text, isShared: at < begin || at >= list.length - end || shared.has(at - begin) })));
  return [parts(a, sharedInA), parts(b, sharedInB)];
}

/** Splits a text into words and what is between them. */
const words = (text) => text.match(/\s+|[\p{L}\p{N}]+|[^\s\p{L}\p{N}]+/gu) ?? [];

/** Returns the positions, in each list, of a longest common subsequence. */
function common(a, b) {
  const found = [new Set(), new Set()];
  if (a.length * b.length > MOST_PAIRS) return found;
  // lengths[i][j]: the length for the rest of `a` from i and the rest of `b` from j.
  const lengths = Array.from({ length: a.length + 1 }, () => new Uint32Array(b.length + 1));
  for (let i = a.length - 1; i >= 0; i -= 1) {
    for (let j = b.length - 1; j >= 0; j -= 1) {
      lengths[i][j] = a[i] === b[j] ? lengths[i + 1][j + 1] + 1 : Math.max(lengths[i + 1][j], lengths[i][j + 1]);
    }
  }
  for (let i = 0, j = 0; i < a.length && j < b.length; ) {
    if (a[i] === b[j]) {
      found[0].add(i++);
      found[1].add(j++);
    } else if (lengths[i + 1][j] >= lengths[i][j + 1]) i += 1;
    else j += 1;
  }
  return found;
}

/** Joins neighbors of the same kind. */
function join(parts) {
  const joined = [];
  for (const part of parts) {
    const last = joined.at(-1);
    if (last?.isShared === part.isShared) last.text += part.text;
    else joined.push({ ...part });
  }
  return joined;
}

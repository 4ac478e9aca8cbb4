import { editsBetween } from '../../runtime/index.ts';

/** Edits within which two names may be the same one, mistyped. */
const MAX_EDITS = 3;

/** Names that may be meant by a mistyped or shortened one, best first; at most three. */
export const similarNames = (typed: string, names: readonly string[]): readonly string[] => {
  const lower = typed.toLowerCase();
  const words = lower.split(/[^a-z]+/).filter((word) => word.length > 2);
  return names
    .map((name) => ({
      name,
      edits: name.startsWith(lower) ? 0 : editsBetween(lower, name),
      shares: words.some((word) => name.includes(word.replace(/s$/, ''))),
    }))
    .filter(({ edits, shares }) => edits <= MAX_EDITS || shares)
    .sort((a, b) => a.edits - b.edits)
    .slice(0, 3)
    .map(({ name }) => name);
};

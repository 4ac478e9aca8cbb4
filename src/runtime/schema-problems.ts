import type { ZodType } from 'zod';
import { itemSchema, knownKeys, nearestKey } from './config-schema.ts';

/** One thing that a value has not as its schema asks, for people. */
export interface SchemaProblem {
  readonly path: readonly (string | number)[];
  readonly message: string;
  /** The path ends in a key that the schema does not know. */
  readonly isUnknownKey: boolean;
}

/** `did you mean X?`, or what there is to choose from. */
export const meantText = (unknown: string, known: readonly string[]): string => {
  const nearest = nearestKey(unknown, known);
  return nearest === undefined ? `known here: ${known.join(', ')}` : `did you mean ${nearest}?`;
};

export const unknownKeyText = (key: string, known: readonly string[]): string =>
  `unknown key ${JSON.stringify(key)}; ${meantText(key, known)}`;

interface Issue {
  readonly keys?: readonly string[] | undefined;
  readonly code?: string | undefined;
  readonly path: readonly PropertyKey[];
  readonly message: string;
  readonly errors?: readonly (readonly Issue[])[];
}

/** The option is of another kind than the value: text for a mapping, say. */
const isOtherKind = (issues: readonly Issue[]): boolean =>
  issues.some(({ code, path }) => code === 'invalid_type' && path.length === 0);

/** A union's issue is the one of its nearest option. */
const flatten = (issue: Issue): Issue[] => {
  if (issue.code !== 'invalid_union' || issue.errors === undefined || issue.errors.length === 0)
    return [issue];
  const ranked = [...issue.errors].sort(
    (left, right) => Number(isOtherKind(left)) - Number(isOtherKind(right)) || left.length - right.length,
  );
  const nearest = ranked[0] ?? [];
  if (nearest.length === 0) return [issue];
  return nearest.flatMap((inner) => flatten({ ...inner, path: [...issue.path, ...inner.path] }));
};

const MISSING = /^invalid input: expected (\w+), received undefined$/;

/** zod's message as a lower-case sentence (`HOST:PORT` stays so); what is not there is called missing. */
const sentence = (message: string): string =>
  (/^[A-Z]{2}/.test(message) ? message : message.charAt(0).toLowerCase() + message.slice(1)).replace(
    MISSING,
    'is missing (expected: $1)',
  );

const schemaAt = (schema: ZodType, path: readonly PropertyKey[]): ZodType | undefined =>
  path.reduce<ZodType | undefined>((outer, part) => {
    if (outer === undefined) return undefined;
    return (typeof part === 'number' ? undefined : knownKeys(outer)?.get(String(part))) ?? itemSchema(outer);
  }, schema);

/** What zod found, as lower-case sentences; an unknown key comes with what was probably meant. */
export const schemaProblems = (issues: readonly Issue[], schema: ZodType): SchemaProblem[] =>
  issues.flatMap(flatten).flatMap(({ code, keys, path, message }): SchemaProblem[] => {
    const place = path.map((part) => (typeof part === 'number' ? part : String(part)));
    if (code !== 'unrecognized_keys' || keys === undefined) {
      return [{ path: place, message: sentence(message), isUnknownKey: false }];
    }
    const here = schemaAt(schema, place);
    const known = [
      ...((here === undefined ? undefined : knownKeys(here)) ?? new Map<string, ZodType>()).keys(),
    ];
    return keys.map((key) => ({
      path: [...place, key],
      message: unknownKeyText(key, known),
      isUnknownKey: true,
    }));
  });

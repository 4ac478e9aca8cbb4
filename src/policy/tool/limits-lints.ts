import { meantText } from '../../runtime/index.ts';
import { OBLIGATION_NAMES } from '../engine/result.ts';
import type { RuleHead } from './catalog.ts';
import type { Diagnostic } from './diagnostic.ts';

/** What a rule's `custom` may have that means something. */
const CUSTOM_KEYS = ['id', 'owner', 'ticket', 'expires', 'limits'];
/** What begins like this is the author's own. */
const OWN_PREFIX = 'x_';

const isMapping = (value: unknown): value is Readonly<Record<string, unknown>> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

const isLimit = (value: unknown): boolean => Number.isInteger(value) && (value as number) > 0;

const limitsTexts = ({ action, custom = {} }: RuleHead): string[] => {
  const names = [...OBLIGATION_NAMES];
  const limits = custom['limits'];
  if (!('limits' in custom)) {
    return action === 'limits'
      ? [`limits rule bounds nothing: its custom limits has none of ${names.join(', ')}`]
      : [];
  }
  if (!isMapping(limits))
    return [`limits ${JSON.stringify(limits)} is no mapping of names to numbers, as {max_seconds: 3600}`];
  if (action === 'limits' && Object.keys(limits).length === 0) {
    return [`limits rule bounds nothing: its custom limits has none of ${names.join(', ')}`];
  }
  return Object.entries(limits).flatMap(([name, value]) => {
    if (!OBLIGATION_NAMES.has(name)) return [`limits.${name} is no limit; ${meantText(name, names)}`];
    return isLimit(value)
      ? []
      : [`limits.${name} is ${JSON.stringify(value)}, and must be a positive whole number`];
  });
};

/** Keys that mean nothing: whoever wrote `limit` or `max_seconds` there takes the rule to be bounded. */
const unknownKeys = ({ custom = {} }: RuleHead): string[] =>
  Object.keys(custom)
    .filter((key) => !CUSTOM_KEYS.includes(key) && !key.startsWith(OWN_PREFIX))
    .map(
      (key) =>
        `'${key}' in custom means nothing; ${meantText(key, CUSTOM_KEYS)}; notes of your own begin with ${OWN_PREFIX}`,
    );

/** Limits that could not be kept, so that the rule would be invalid whenever it is asked; and keys that mean nothing. */
export const lintLimits = (heads: readonly RuleHead[]): Diagnostic[] =>
  heads.flatMap((head) => {
    const at = { file: head.file, line: head.line, column: 1 };
    return [
      ...limitsTexts(head).map((message) => ({ ...at, rule: 'rule-limits', message })),
      ...unknownKeys(head).map((message) => ({ ...at, rule: 'rule-custom', message })),
    ];
  });

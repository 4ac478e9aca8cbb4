import type { Diagnostic } from './diagnostic.ts';
import type { RuleHead } from './catalog.ts';
import { readLines } from './sources.ts';

const MAPPED = /"[^"]*::ffff:[^"]*"/i;
const SPRINTF = /\bsprintf\s*\(/;
const DATE = /^\d{4}-\d{2}-\d{2}(T\d{2}:\d{2}:\d{2}Z)?$/;
const NEVER = 'never';

const isInstant = (text: string): boolean => {
  const full = text.length === 10 ? `${text}T00:00:00Z` : text;
  const parsed = DATE.test(text) ? Date.parse(full) : Number.NaN;
  return !Number.isNaN(parsed) && new Date(parsed).toISOString().slice(0, 19) === full.slice(0, 19);
};

const finding = (head: RuleHead, rule: string, message: string): Diagnostic => ({
  file: head.file,
  line: head.line,
  column: 1,
  rule,
  message,
});

const lintHead = (head: RuleHead): Diagnostic[] => {
  const { custom, action } = head;
  if (custom === undefined) {
    return [finding(head, 'rule-metadata', `${action} rule has no METADATA with a custom id and owner`)];
  }
  const found: Diagnostic[] = [];
  const { id, owner, expires } = custom;
  if (typeof id !== 'string' || id === '') found.push(finding(head, 'rule-id', 'rule has no literal id'));
  if (typeof owner !== 'string' || owner === '') found.push(finding(head, 'rule-owner', 'rule has no owner'));
  const grants = action === 'publish' || action === 'stream';
  if (grants && expires === undefined) {
    found.push(finding(head, 'rule-expiry', "rule has no expires; write a date or 'never'"));
  } else if (grants && expires !== NEVER && !(typeof expires === 'string' && isInstant(expires))) {
    const text = `expires ${JSON.stringify(expires)} is neither a date, a utc second nor 'never'`;
    found.push(finding(head, 'rule-expiry', text));
  }
  return found;
};

const duplicates = (heads: readonly RuleHead[]): Diagnostic[] => {
  const first = new Map<string, RuleHead>();
  return heads.flatMap((head) => {
    const id = head.custom?.['id'];
    if (typeof id !== 'string') return [];
    const before = first.get(id);
    if (before === undefined) {
      first.set(id, head);
      return [];
    }
    const text = `id '${id}' is already used at ${before.file}:${String(before.line)}`;
    return [finding(head, 'rule-id', text)];
  });
};

/** What can be said of the rules' heads: ids unique and literal, owners, expiry dates. */
export const lintHeads = (heads: readonly RuleHead[]): Diagnostic[] => [
  ...heads.flatMap(lintHead),
  ...duplicates(heads),
];

/** What can be said line by line: mapped networks, which two engines judge differently, and sprintf. */
export const lintText = (directory: string, file: string): Diagnostic[] =>
  readLines(directory, file).flatMap((line, index) => {
    const code = line.trimStart().startsWith('#') ? '' : line;
    const at = (match: RegExpExecArray | null, rule: string, message: string): Diagnostic[] =>
      match === null ? [] : [{ file, line: index + 1, column: match.index + 1, rule, message }];
    return [
      ...at(MAPPED.exec(code), 'mapped-cidr', 'ipv4-mapped networks are refused; write the ipv4 network'),
      ...at(SPRINTF.exec(code), 'no-sprintf', 'sprintf does not run inside wasm; use concat'),
    ];
  });

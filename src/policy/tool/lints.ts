import { isMappedNetwork } from '../address.ts';
import type { Diagnostic } from './diagnostic.ts';
import type { RuleHead } from './catalog.ts';
import { withoutComments } from './conditions.ts';
import { readLines } from './sources.ts';

/** A text of Rego, in quotes or raw. */
const LITERAL = /"((?:[^"\\]|\\.)*)"|`([^`]*)`/g;
const SPRINTF = /\bsprintf\s*\(/;
const DATE = /^\d{4}-\d{2}-\d{2}(T\d{2}:\d{2}:\d{2}Z)?$/;
const NEVER = 'never';
/** What makes id, owner and expiry of a rule exist when it is evaluated. */
export const METADATA_CALL = 'rego.metadata.rule()';

const isInstant = (text: string): boolean => {
  const full = text.length === 10 ? `${text}T00:00:00Z` : text;
  const parsed = DATE.test(text) ? Date.parse(full) : Number.NaN;
  return !Number.isNaN(parsed) && new Date(parsed).toISOString().slice(0, 19) === full.slice(0, 19);
};

/** What ends a rule or a grant: `never`, a date or a UTC second that there is. */
export const isExpiry = (text: string): boolean => text === NEVER || isInstant(text);

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
  if (!head.text.includes(METADATA_CALL)) {
    const text = `${action} rule does not yield its own metadata: write 'contains ${METADATA_CALL}' in its head`;
    found.push(finding(head, 'rule-metadata', text));
  }
  if (typeof id !== 'string' || id === '') found.push(finding(head, 'rule-id', 'rule has no literal id'));
  if (typeof owner !== 'string' || owner === '') found.push(finding(head, 'rule-owner', 'rule has no owner'));
  const grants = action === 'publish' || action === 'stream';
  if (grants && expires === undefined) {
    found.push(finding(head, 'rule-expiry', "rule has no expires; write a date or 'never'"));
  } else if (grants && !(typeof expires === 'string' && isExpiry(expires))) {
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
    const code = withoutComments(line);
    const at = (column: number, rule: string, message: string): Diagnostic => ({
      file,
      line: index + 1,
      column: column + 1,
      rule,
      message,
    });
    const mapped = [...code.matchAll(LITERAL)]
      .filter(([, quoted, raw]) => isMappedNetwork(quoted ?? raw ?? ''))
      .map((match) =>
        at(match.index, 'mapped-cidr', 'ipv4-mapped networks are refused; write the ipv4 network'),
      );
    // Texts keep their length, so that columns stay.
    const call = SPRINTF.exec(code.replace(LITERAL, (literal) => ' '.repeat(literal.length)));
    const sprintf =
      call === null ? [] : [at(call.index, 'no-sprintf', 'sprintf does not run inside wasm; use concat')];
    return [...mapped, ...sprintf];
  });

import { meantText } from '../../runtime/index.ts';
import { ALLOW_PACKAGE, RULE_SETS, type RuleHead } from './catalog.ts';
import { definitionsOf } from './conditions.ts';
import type { Diagnostic } from './diagnostic.ts';
import { METADATA_CALL } from './lints.ts';
import { annotationOf } from './rule-source.ts';
import { readLines } from './sources.ts';

const RULE_SET_NAMES: ReadonlySet<string> = new Set(RULE_SETS);
/** The head of a rule, to the end of its first key. */
const KEYED_HEAD = /^\w+(?:\.\w+|\[[^\]]*\])/;
const EVERY_CONNECTION = '*';

const at = (file: string, line: number, rule: string, message: string): Diagnostic => ({
  file,
  line,
  column: 1,
  rule,
  message,
});

/** A set is easily given the plural of what it says. */
const singular = (name: string): string => name.replace(/ies$/, 'y').replace(/s$/, '');

const isCustomId = (annotation: Readonly<Record<string, unknown>>): boolean => {
  const custom = annotation['custom'];
  return typeof custom === 'object' && custom !== null && 'id' in custom;
};

/** Rules under a name that nothing asks: a refusal of that kind is not there at all. */
const lintNames = (directory: string, file: string): Diagnostic[] => {
  const lines = readLines(directory, file);
  if (!lines.some((line) => ALLOW_PACKAGE.test(line))) return [];
  return definitionsOf(lines).flatMap(({ name, line, text }) => {
    if (RULE_SET_NAMES.has(name)) return [];
    if (!text.includes(METADATA_CALL) && !isCustomId(annotationOf(lines, line - 1))) return [];
    const message = `'${name}' is no rule set: nothing asks it, so this rule never counts; ${meantText(singular(name), RULE_SETS)}`;
    return [at(file, line, 'rule-set', message)];
  });
};

const lintHead = ({ file, line, action, text }: RuleHead): Diagnostic[] => {
  const keyed = KEYED_HEAD.exec(text);
  const wrong = (message: string): Diagnostic[] => [at(file, line, 'rule-head', message)];
  if (keyed === null) {
    const every = action === 'deny' || action === 'limits' ? ` or ${action}["*"]` : '';
    return wrong(
      `${action} rule names no connection, so it never counts: write ${action}.NAME, ${action}["NAME"]${every}`,
    );
  }
  if (/^[.[]/.test(text.slice(keyed[0].length))) {
    return wrong(`${action} rule has more than a connection in its head, so it never counts`);
  }
  if ((action === 'publish' || action === 'stream') && /\[["`]\*["`]\]$/.test(keyed[0])) {
    const name = `${action}[name] contains … if name := input.connection.name`;
    return wrong(
      `${action}["${EVERY_CONNECTION}"] never counts: "*" is for deny and limits; name the connection, or write ${name}`,
    );
  }
  return [];
};

/**
 * Rules that nothing asks, whatever they say: of a set that there is not, of no connection, or of one that cannot be.
 * @param files of the author, tests apart
 */
export const lintRuleSets = (
  directory: string,
  files: readonly string[],
  heads: readonly RuleHead[],
): Diagnostic[] => [...files.flatMap((file) => lintNames(directory, file)), ...heads.flatMap(lintHead)];

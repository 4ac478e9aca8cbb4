import { type Definition, definitionsOf, fieldsOf, withoutComments } from './conditions.ts';
import type { Diagnostic } from './diagnostic.ts';
import { readLines } from './sources.ts';

const HEADS: ReadonlySet<string> = new Set(['publish', 'stream', 'deny', 'limits']);
/** Say nothing of who or what: every input has them, and a head names the connection. */
const NEUTRAL: ReadonlySet<string> = new Set(['v', 'action', 'connection.name']);

/**
 * What more than the relay's word stands behind. A publish rule that pins the target needs nobody's word: the agent
 * dials what was decided. A stream rule that names who asks is what identities will vouch for; until there are any,
 * warning of it would be warning of every rule.
 */
const SUFFICIENT: Readonly<Record<'publish' | 'stream', RegExp>> = {
  publish: /^(?:target|agent|listener\.proved_by$)/,
  stream: /^(?:key|target|agent|time|usage|managed)\b/,
};

const warning = (file: string, line: number, column: number, rule: string, message: string): Diagnostic => ({
  file,
  line,
  column,
  rule,
  message,
  severity: 'warning',
});

const lintTrust = (
  file: string,
  { name, line, text }: Definition,
  definitions: ReadonlyMap<string, readonly Definition[]>,
): Diagnostic[] => {
  if (name !== 'publish' && name !== 'stream') return [];
  const fields = fieldsOf(text, definitions);
  if (fields === undefined) return [];
  const said = [...fields].filter((field) => !NEUTRAL.has(field));
  if (said.length > 0 && said.every((field) => field === 'source.claimed')) {
    return [
      warning(
        file,
        line,
        1,
        'claimed-only',
        'input.source.claimed is what the gateway says of its client and nobody vouches for it; add another condition',
      ),
    ];
  }
  if (said.some((field) => SUFFICIENT[name].test(field))) return [];
  const looks = said.length === 0 ? 'nothing' : said.join(', ');
  const remedy =
    name === 'publish'
      ? 'pin the target (request.target_is) or the agent'
      : 'name who may (input.key.principal)';
  return [
    warning(
      file,
      line,
      1,
      'relay-vouched',
      `rule looks at ${looks}: it rests on what the relay alone says; ${remedy}`,
    ),
  ];
};

const PATTERN_CALL = /\b(regex|glob)\.\w+\(\s*("(?:[^"\\]|\\.)*"|`[^`]*`)?/g;
const ITERATES = /\bsome\b|\bevery\b|\[_\]|\|/;

/** Regular expressions and globs cost 13–21 µs a pattern inside wasm (measured); a whole decision costs 50. */
const lintPatterns = (file: string, { line, text }: Definition): Diagnostic[] => {
  const code = withoutComments(text);
  return code
    .split('\n')
    .flatMap((row, index) =>
      [...row.matchAll(PATTERN_CALL)]
        .filter(([, , literal]) => literal === undefined || ITERATES.test(code))
        .map((match) =>
          warning(
            file,
            line + index,
            match.index + 1,
            'pattern-list',
            `${match[1] ?? ''} over a list costs 13 to 21 µs for each pattern; use startswith, endswith or a set`,
          ),
        ),
    );
};

/** Warnings: rules that rest on what nobody, or the relay alone, vouches for; and slow conditions. */
export const lintTrustAndCost = (directory: string, files: readonly string[]): Diagnostic[] => {
  const read = files.map((file) => ({ file, definitions: definitionsOf(readLines(directory, file)) }));
  const byName = new Map<string, Definition[]>();
  for (const definition of read.flatMap(({ definitions }) => definitions)) {
    // The rules of one connection are not conditions of another's.
    if (HEADS.has(definition.name)) continue;
    byName.set(definition.name, [...(byName.get(definition.name) ?? []), definition]);
  }
  return read.flatMap(({ file, definitions }) =>
    definitions.flatMap((definition) => [
      ...lintTrust(file, definition, byName),
      ...lintPatterns(file, definition),
    ]),
  );
};

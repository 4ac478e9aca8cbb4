import { bodyOf } from './rule-source.ts';

/** What the library's conditions look at without naming it in the author's line. */
export const LOOKS_AT: Readonly<Record<string, readonly string[]>> = {
  target_is: ['input.target.host', 'input.target.port'],
  from_any: ['input.source.address'],
  working_hours: ['input.time.local.weekday', 'input.time.local.hour'],
  before: ['input.time.rfc3339'],
};
export const INPUT_PATH = /\binput(?:\.[A-Za-z_]\w*|\["[^"\]]+"\])+/g;
export const LIBRARY_CALL = /\brequest\.(\w+)\(/g;

/** One top-level statement of a file: a rule, a function, a value. */
export interface Definition {
  readonly name: string;
  /** 1-based line of the head. */
  readonly line: number;
  readonly text: string;
}

const NAME = /^(?:default\s+)?([A-Za-z_]\w*)/;
const NOT_RULES: ReadonlySet<string> = new Set(['package', 'import']);

/** Every top-level statement of formatted Rego but package and imports. */
export const definitionsOf = (lines: readonly string[]): Definition[] => {
  const found: Definition[] = [];
  for (let index = 0; index < lines.length; index += 1) {
    const name = NAME.exec(lines[index] ?? '')?.[1];
    if (name === undefined || NOT_RULES.has(name)) continue;
    const text = bodyOf(lines, index);
    found.push({ name, line: index + 1, text });
    index += text.split('\n').length - 1;
  }
  return found;
};

/** Rego without comments; texts stay, because names of fields may be in them. */
export const withoutComments = (text: string): string =>
  text.replace(/("(?:[^"\\\n]|\\.)*"|`[^`]*`)|#[^\n]*/g, (_, literal: string | undefined) => literal ?? '');

const withoutTexts = (text: string): string => text.replace(/"(?:[^"\\\n]|\\.)*"|`[^`]*`/g, '""');

/** Input as a whole, or data that is not the library's: what a rule looks at can then not be told. */
const OPAQUE = /\binput\b(?!\s*[.[])|\bdata\.(?!sallyport\.(?:request|allow)\b)/;
const IDENTIFIER = /\b[A-Za-z_]\w*\b/g;

/**
 * Fields of the input that a rule looks at, as `source.address`, through the author's own functions and values and the
 * library's; undefined when that cannot be told.
 * @param definitions of every file of the author, by name
 */
export const fieldsOf = (
  text: string,
  definitions: ReadonlyMap<string, readonly Definition[]>,
): ReadonlySet<string> | undefined => {
  const seen = new Set<string>();
  const waiting = [text];
  const fields = new Set<string>();
  for (let next = waiting.pop(); next !== undefined; next = waiting.pop()) {
    const code = withoutComments(next);
    if (OPAQUE.test(withoutTexts(code))) return undefined;
    const called = [...code.matchAll(LIBRARY_CALL)].flatMap(([, name = '']) => LOOKS_AT[name] ?? []);
    for (const path of [...called, ...[...code.matchAll(INPUT_PATH)].map(([found]) => found)]) {
      const segments = path
        .replace(/\["([^"]+)"\]/g, '.$1')
        .split('.')
        .slice(1, 3);
      fields.add(segments.join('.'));
    }
    for (const [name] of withoutTexts(code).matchAll(IDENTIFIER)) {
      if (seen.has(name)) continue;
      seen.add(name);
      waiting.push(...(definitions.get(name) ?? []).map((definition) => definition.text));
    }
  }
  return fields;
};

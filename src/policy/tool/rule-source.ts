import { parse } from 'yaml';
import type { ArchiveFiles } from '../bundle/archive.ts';
import type { CatalogEntry } from '../bundle/bundle.ts';

/** A rule as its author wrote it. */
export interface RuleSource {
  /** From the head to the end of the body. */
  readonly text: string;
  /** All of METADATA's `custom`. */
  readonly custom: Readonly<Record<string, unknown>>;
  readonly description: string | undefined;
}

const OPENS = /[{[(]/;
const CLOSES = /[}\])]/;

/** How much deeper one line of Rego leaves the nesting, texts and comments apart. */
const depthOf = (line: string): number => {
  const code = line
    .replace(/"(?:[^"\\]|\\.)*"/g, '')
    .replace(/`[^`]*`/g, '')
    .replace(/#.*$/, '');
  let depth = 0;
  for (const char of code) {
    if (OPENS.test(char)) depth += 1;
    else if (CLOSES.test(char)) depth -= 1;
  }
  return depth;
};

/** The statement that begins at a line (0-based), to where its brackets close. */
export const bodyOf = (lines: readonly string[], head: number): string => {
  let depth = 0;
  let end = head;
  do {
    depth += depthOf(lines[end] ?? '');
    end += 1;
  } while (depth > 0 && end < lines.length);
  return lines.slice(head, end).join('\n');
};

const isObject = (value: unknown): value is Readonly<Record<string, unknown>> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

/** The METADATA directly above a line (0-based); empty when there is none that can be read. */
export const annotationOf = (lines: readonly string[], head: number): Readonly<Record<string, unknown>> => {
  const above = lines.slice(0, head);
  const start = above.findLastIndex((line) => line.trimEnd() === '# METADATA');
  const block = start === -1 ? [] : above.slice(start + 1);
  if (block.length === 0 || !block.every((line) => line.startsWith('#'))) return {};
  try {
    const value: unknown = parse(block.map((line) => line.replace(/^# ?/, '')).join('\n'));
    return isObject(value) ? value : {};
  } catch {
    return {};
  }
};

/** The source of a rule of the catalog; undefined when the bundle does not hold it. */
export const ruleSource = (
  files: ArchiveFiles,
  { file, line }: Pick<CatalogEntry, 'file' | 'line'>,
): RuleSource | undefined => {
  const lines = files.get(file)?.toString('utf8').split('\n');
  if (lines === undefined || line < 1 || line > lines.length) return undefined;
  const { custom, description } = annotationOf(lines, line - 1);
  return {
    text: bodyOf(lines, line - 1),
    custom: isObject(custom) ? custom : {},
    description: typeof description === 'string' ? description : undefined,
  };
};

import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { type Document, isNode, LineCounter, parseDocument } from 'yaml';
import { z } from 'zod';
import { AppError, schemaProblems } from '../../runtime/index.ts';
import { type Vector, vectorSchema } from '../bundle/bundle.ts';
import type { PolicyErrorCode } from '../errors.ts';
import { type Diagnostic, diagnosticText } from './diagnostic.ts';

const FOLDER = 'vectors';
/** Expansions of anchors in one file: vectors share their inputs, a bomb would need more. */
const MAX_ALIASES = 100_000;

type Path = readonly PropertyKey[];
interface Place {
  readonly line: number;
  readonly column: number;
}

/** A vector and where its author wrote it. */
export interface LocatedVector {
  readonly vector: Vector;
  readonly file: string;
  /** 1-based */
  readonly line: number;
  /** 1-based */
  readonly column: number;
  /** Where a value inside it stands. */
  readonly placeIn: (path: Path) => Place;
}

export interface ReadVectors {
  readonly vectors: readonly LocatedVector[];
  /** What is wrong with the files; the vectors of a wrong file are left out. */
  readonly findings: readonly Diagnostic[];
}

/** Where the value at a path stands, or the nearest one around it: what a merge brought in stands elsewhere. */
export const placeOf = (document: Document, lines: LineCounter, path: Path): Place => {
  for (let depth = path.length; depth >= 0; depth -= 1) {
    const node: unknown = depth === 0 ? document.contents : document.getIn(path.slice(0, depth), true);
    if (!isNode(node) || node.range === undefined || node.range === null) continue;
    const { line, col } = lines.linePos(node.range[0]);
    return { line, column: col };
  }
  return { line: 1, column: 1 };
};

/** What YAML itself finds wrong, each at its place. */
export const yamlFindings = (document: Document, file: string, rule: string): Diagnostic[] =>
  document.errors.map(({ linePos, message }) => ({
    file,
    line: linePos?.[0].line ?? 1,
    column: linePos?.[0].col ?? 1,
    rule,
    // The message ends with the place and an excerpt; the first line is what is wrong.
    message: (message.split('\n')[0] ?? message).replace(/ at line \d+, column \d+:?$/, ''),
  }));

const vectorsSchema = z.array(vectorSchema);

const readFile = (directory: string, file: string): ReadVectors => {
  const lines = new LineCounter();
  const document = parseDocument(readFileSync(join(directory, file), 'utf8'), {
    merge: true,
    lineCounter: lines,
  });
  const wrong = (path: Path, message: string): Diagnostic => ({
    file,
    ...placeOf(document, lines, path),
    rule: FOLDER,
    message,
  });
  if (document.errors.length > 0) {
    return { vectors: [], findings: yamlFindings(document, file, FOLDER) };
  }
  let value: unknown;
  try {
    value = document.toJS({ maxAliasCount: MAX_ALIASES });
  } catch (thrown) {
    return { vectors: [], findings: [wrong([], (thrown as Error).message)] };
  }
  const parsed = vectorsSchema.safeParse(value ?? []);
  if (!parsed.success) {
    const findings = schemaProblems(parsed.error.issues, vectorsSchema).map(({ path, message }) => {
      const [index, ...rest] = path;
      const which = index === undefined ? 'vectors' : `vector ${String(Number(index) + 1)}`;
      return wrong(path, `${[which, rest.join('.')].filter((part) => part !== '').join(': ')}: ${message}`);
    });
    return { vectors: [], findings };
  }
  const vectors = parsed.data.map((vector, index) => ({
    vector,
    file,
    ...placeOf(document, lines, [index]),
    placeIn: (path: Path) => placeOf(document, lines, [index, ...path]),
  }));
  return { vectors, findings: [] };
};

/** Every vector of `vectors/*.yaml`, files in order of their names, and what is wrong with the files. */
export const locateVectors = (directory: string): ReadVectors => {
  const folder = join(directory, FOLDER);
  if (!existsSync(folder)) return { vectors: [], findings: [] };
  const read = readdirSync(folder)
    .filter((name) => /\.ya?ml$/.test(name))
    .sort()
    .map((name) => readFile(directory, `${FOLDER}/${name}`));
  return {
    vectors: read.flatMap(({ vectors }) => vectors),
    findings: read.flatMap(({ findings }) => findings),
  };
};

/** Every vector of a directory whose files are all in order. @throws AppError ERR_POLICY_SOURCE, each finding a line */
export const readVectors = (directory: string): LocatedVector[] => {
  const { vectors, findings } = locateVectors(directory);
  if (findings.length === 0) return [...vectors];
  throw new AppError<PolicyErrorCode>('ERR_POLICY_SOURCE', findings.map(diagnosticText).join('\n'));
};

/** What is wrong with the vectors: their files, and names that are used twice, which a report could not tell apart. */
export const lintVectors = (directory: string): Diagnostic[] => {
  const { vectors, findings } = locateVectors(directory);
  const first = new Map<string, LocatedVector>();
  const twice = vectors.flatMap((located): Diagnostic[] => {
    const { vector, file, line, column } = located;
    const before = first.get(vector.name);
    first.set(vector.name, before ?? located);
    if (before === undefined) return [];
    const message = `vector '${vector.name}' is already at ${before.file}:${String(before.line)}`;
    return [{ file, line, column, rule: 'vector-name', message }];
  });
  return [...findings, ...twice];
};

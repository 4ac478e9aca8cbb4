import { readFile } from 'node:fs/promises';
import { accessSync, constants, readFileSync, statSync } from 'node:fs';
import { dirname, isAbsolute, resolve } from 'node:path';
import type { Document, LineCounter, ParsedNode } from 'yaml';
import type { ZodType } from 'zod';
import { innerSchema, isTextSchema, itemSchema, knownKeys } from './config-schema.ts';
import { environment as processEnvironment } from './environment.ts';
import { databaseFileProblems } from './database-problem.ts';
import { AppError, foreignCodeOf, messageOf } from './errors.ts';
import { yaml } from './lazy.ts';
import { schemaProblems, unknownKeyText } from './schema-problems.ts';
import { terminalText } from './text.ts';

/** A configuration file is read whole; one beyond this is not a configuration file. */
export const MAX_CONFIG_BYTES = 1024 * 1024;
/** A secret in its own file (`*_file`) is at most this. */
const MAX_SECRET_BYTES = 64 * 1024;
const MAX_ALIASES = 100;

/** One thing wrong in a configuration, at the place where it is written (line and column from 1). */
export interface ConfigProblem {
  readonly file: string;
  readonly line: number;
  readonly column: number;
  readonly message: string;
}

/** `file:line:col: message`, the form editors jump to. */
export const formatProblem = (problem: ConfigProblem): string =>
  `${problem.file}:${problem.line}:${problem.column}: ${terminalText(problem.message)}`;

/** Every problem of a configuration at once. */
export class ConfigError extends AppError<'ERR_CONFIG_INVALID'> {
  readonly problems: readonly ConfigProblem[];

  constructor(problems: readonly ConfigProblem[]) {
    super('ERR_CONFIG_INVALID', problems.map(formatProblem).join('\n'));
    this.problems = problems;
  }
}

export interface ReadConfigOptions {
  /** Default: the environment of the process. */
  readonly environment?: Readonly<Record<string, string | undefined>>;
  /** Keys (`tls.cert_file`) whose files must be readable for the configuration to be right. */
  readonly readableFiles?: readonly string[];
  /** Keys (`audit.database_url`) with database URLs: the files that these name must be readable too. */
  readonly databaseUrls?: readonly string[];
  /** Told of what is no problem yet: a file with a key or a secret that others may read. */
  readonly onWarning?: (warning: ConfigProblem) => void;
  /** The file says everything itself: no variables, no overrides, no `*_file` in place of a value. */
  readonly isSelfContained?: boolean;
}

/** Permission bits of the group and of everybody else, and all that chmod sets. */
const OTHERS = 0o077;
const MODE_BITS = 0o7777;
/** Keys whose files hold private keys. */
const PRIVATE_KEY = /^(?!public_)(.*_)?(key|keyring|token)_file$/;
/** What anybody may read. */
const PUBLIC_KEY = /^public_/;

type Path = readonly (string | number)[];

/** One reading of one file: collects problems instead of stopping at the first. */
class Reading {
  readonly problems: ConfigProblem[] = [];
  readonly file: string;
  readonly environment: Readonly<Record<string, string | undefined>>;
  readonly isSelfContained: boolean;
  readonly #onWarning: ReadConfigOptions['onWarning'];
  readonly #lines: LineCounter;
  readonly #document: Document.Parsed;

  constructor(file: string, text: string, options: ReadConfigOptions) {
    this.file = file;
    this.#onWarning = options.onWarning;
    this.isSelfContained = options.isSelfContained === true;
    this.environment = this.isSelfContained ? {} : (options.environment ?? processEnvironment);
    const { LineCounter, parseDocument } = yaml();
    this.#lines = new LineCounter();
    this.#document = parseDocument(text, {
      lineCounter: this.#lines,
      prettyErrors: false,
      version: '1.2',
      merge: false,
    });
    for (const error of this.#document.errors) this.#at(error.pos[0], error.message);
  }

  #place(offset: number | undefined, message: string): ConfigProblem {
    const place = offset === undefined ? { line: 1, col: 1 } : this.#lines.linePos(offset);
    return { file: this.file, line: Math.max(1, place.line), column: Math.max(1, place.col), message };
  }

  #at(offset: number | undefined, message: string): void {
    this.problems.push(this.#place(offset, message));
  }

  /** The document as plain values; undefined when it could not be parsed. */
  values(): unknown {
    if (this.problems.length > 0) return undefined;
    try {
      return this.#document.toJS({ maxAliasCount: MAX_ALIASES }) as unknown;
    } catch (error) {
      this.#at(undefined, messageOf(error));
      return undefined;
    }
  }

  /** Where the value of a path is written, or the nearest place above it. */
  #offsetOf(path: Path, key?: string): number | undefined {
    const { isAlias, isMap, isNode } = yaml();
    for (let length = path.length; length >= 0; length -= 1) {
      const found: unknown =
        length === 0 ? this.#document.contents : this.#document.getIn(path.slice(0, length), true);
      if (!isNode(found) || isAlias(found)) continue;
      if (key !== undefined && length === path.length && isMap(found)) {
        const pair = found.items.find((item) => String(item.key) === key);
        const keyNode = pair?.key as ParsedNode | undefined;
        if (keyNode?.range) return keyNode.range[0];
      }
      if (found.range) return found.range[0];
    }
    return undefined;
  }

  problem(path: Path, message: string, key?: string): void {
    this.#at(this.#offsetOf(path, key), path.length === 0 ? message : `${path.join('.')}: ${message}`);
  }

  /** Warns when others than its owner may read a file that only the process should. */
  warnOfReaders(path: Path, file: string): void {
    const mode = this.#onWarning === undefined ? 0 : (statSync(file, { throwIfNoEntry: false })?.mode ?? 0);
    if ((mode & OTHERS) === 0) return;
    const shown = (mode & MODE_BITS).toString(8).padStart(4, '0');
    this.#onWarning?.(
      this.#place(
        this.#offsetOf(path),
        `${path.join('.')}: others may read ${file} (mode ${shown}): chmod 600 ${file}`,
      ),
    );
  }

  throwProblems(): void {
    if (this.problems.length === 0) return;
    const ordered = [...this.problems].sort(
      (left, right) => left.line - right.line || left.column - right.column,
    );
    throw new ConfigError(ordered);
  }
}

const VARIABLE = /\$(?:\$\{|\{(?<name>[A-Za-z_][A-Za-z0-9_]*)\})/g;

const substitute = (reading: Reading, text: string, path: Path): string =>
  text.replace(VARIABLE, (whole: string, name: string | undefined) => {
    if (name === undefined) return whole.slice(1);
    const value = reading.environment[name];
    if (value === undefined) {
      reading.problem(path, `environment variable ${name} is not set`);
      return '';
    }
    return value;
  });

const isRecord = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

const isPathKey = (key: string): boolean => key.endsWith('_file') || key.endsWith('_dir');

/** The text of a secret's own file, without the line end that editors add. */
const readSecret = (reading: Reading, file: string, path: Path): string | undefined => {
  try {
    const bytes = readFileSync(file);
    if (!PUBLIC_KEY.test(String(path.at(-1)))) reading.warnOfReaders(path, file);
    if (bytes.length > MAX_SECRET_BYTES) {
      reading.problem(path, `${file} has ${bytes.length} bytes, a secret has at most ${MAX_SECRET_BYTES}`);
      return undefined;
    }
    return bytes.toString('utf8').replace(/\r?\n$/, '');
  } catch (error) {
    reading.problem(path, `cannot read ${file}: ${foreignCodeOf(error) ?? messageOf(error)}`);
    return undefined;
  }
};

/** Variables, paths, `*_file` and unknown keys of one place and everything below it. */
const prepare = (reading: Reading, value: unknown, schema: ZodType | undefined, path: Path): unknown => {
  if (typeof value === 'string') return reading.isSelfContained ? value : substitute(reading, value, path);
  if (Array.isArray(value)) {
    const item = schema === undefined ? undefined : itemSchema(schema);
    return value.map((entry, index) => prepare(reading, entry, item, [...path, index]));
  }
  if (!isRecord(value)) return value;
  const known = schema === undefined ? undefined : knownKeys(schema);
  const free = schema === undefined || known !== undefined ? undefined : itemSchema(schema);
  const prepared: Record<string, unknown> = {};
  for (const [key, entry] of Object.entries(value)) {
    const below = [...path, key];
    const secretKey = key.endsWith('_file') ? key.slice(0, -'_file'.length) : undefined;
    const isSecret =
      !reading.isSelfContained &&
      secretKey !== undefined &&
      known?.has(key) === false &&
      known.has(secretKey);
    if (known?.has(key) === false && !isSecret) {
      reading.problem(path, unknownKeyText(key, [...known.keys()]), key);
      continue;
    }
    let ready = prepare(reading, entry, known?.get(key) ?? free, below);
    if (typeof ready === 'string' && isPathKey(key) && ready !== '' && !isAbsolute(ready)) {
      ready = resolve(dirname(reading.file), ready);
    }
    if (typeof ready === 'string' && PRIVATE_KEY.test(key)) reading.warnOfReaders(below, ready);
    if (!isSecret) {
      prepared[key] = ready;
    } else if (secretKey in value) {
      reading.problem(path, `${secretKey} and ${key} are both given; keep one`, key);
    } else if (typeof ready === 'string') {
      const secret = readSecret(reading, ready, below);
      if (secret !== undefined) prepared[secretKey] = secret;
    } else {
      reading.problem(below, 'expected the path of a file');
    }
  }
  return prepared;
};

/** Puts `SALLYPORT_<SECTION>_<KEY>` over what the file says; lists and numbers are written as YAML. */
const override = (
  reading: Reading,
  values: Record<string, unknown>,
  schema: ZodType,
  prefix: string,
): void => {
  for (const [key, below] of knownKeys(schema) ?? []) {
    const name = `${prefix}_${key.toUpperCase()}`;
    if (knownKeys(below) !== undefined && itemSchema(below) === undefined) {
      const section = isRecord(values[key]) ? values[key] : {};
      const before = Object.keys(section).length;
      override(reading, section, below, name);
      if (Object.keys(section).length > before || isRecord(values[key])) values[key] = section;
      continue;
    }
    const text = reading.environment[name];
    if (text !== undefined) {
      try {
        values[key] = isTextSchema(below) ? text : (yaml().parse(text) as unknown);
      } catch (error) {
        reading.problem([key], `environment variable ${name}: ${messageOf(error)}`);
      }
      Reflect.deleteProperty(values, `${key}_file`);
      continue;
    }
    const file = reading.environment[`${name}_FILE`];
    if (file === undefined || knownKeys(schema)?.has(`${key}_file`) === true) continue;
    const secret = readSecret(reading, resolve(file), [key]);
    if (secret !== undefined) values[key] = secret;
  }
};

/**
 * Validates the text of a configuration as if it stood in `file`.
 * Relative paths under keys that end in `_file` or `_dir` are taken from the file's own directory;
 * `x_file` stands in for `x` where the schema knows only `x`; `${NAME}` is the environment, `$${` a literal.
 * @throws ConfigError with every problem at once
 */
export const parseConfig = <T>(
  text: string,
  file: string,
  schema: ZodType<T>,
  options: ReadConfigOptions = {},
): T => {
  const reading = new Reading(file, text, options);
  const raw = reading.values();
  reading.throwProblems();
  if (!isRecord(raw)) {
    reading.problem([], 'expected a mapping of keys to values');
    reading.throwProblems();
  }
  const values = prepare(reading, raw, innerSchema(schema), []) as Record<string, unknown>;
  override(reading, values, innerSchema(schema), 'SALLYPORT');
  const result = schema.safeParse(values);
  if (!result.success) {
    for (const { isUnknownKey, path, message } of schemaProblems(result.error.issues, schema)) {
      if (!isUnknownKey) reading.problem(path, message);
    }
  }
  for (const key of options.readableFiles ?? []) requireReadable(reading, values, key.split('.'));
  for (const key of options.databaseUrls ?? []) requireDatabaseFiles(reading, values, key.split('.'));
  reading.throwProblems();
  return (result as { data: T }).data;
};

const valueAt = (values: unknown, path: readonly string[]): unknown => {
  let value: unknown = values;
  for (const key of path) value = isRecord(value) ? value[key] : undefined;
  return value;
};

/** A problem is told at the key, or at the `KEY_file` that stands in for it, or at what is above both. */
const requireDatabaseFiles = (reading: Reading, values: unknown, path: readonly string[]): void => {
  const value = valueAt(values, path);
  if (typeof value !== 'string') return;
  for (const problem of databaseFileProblems(value)) reading.problem(path, problem);
};

const requireReadable = (reading: Reading, values: unknown, path: readonly string[]): void => {
  const value = valueAt(values, path);
  if (typeof value !== 'string') return;
  try {
    accessSync(value, constants.R_OK);
  } catch (error) {
    reading.problem(path, `cannot read ${value}: ${foreignCodeOf(error) ?? messageOf(error)}`);
  }
};

/**
 * Reads and validates the configuration of one process.
 * @throws AppError ERR_CONFIG_UNREADABLE, ConfigError (ERR_CONFIG_INVALID)
 */
export const readConfig = async <T>(
  file: string,
  schema: ZodType<T>,
  options: ReadConfigOptions = {},
): Promise<T> => parseConfig(await readConfigText(file), resolve(file), schema, options);

/** The text of a configuration file. @throws AppError ERR_CONFIG_UNREADABLE */
export const readConfigText = async (file: string): Promise<string> => {
  let bytes: Buffer;
  try {
    bytes = await readFile(file);
  } catch (error) {
    const code = foreignCodeOf(error);
    const why = code === 'ENOENT' ? 'there is no such file' : (code ?? messageOf(error));
    throw new AppError('ERR_CONFIG_UNREADABLE', `cannot read the configuration ${file}: ${why}`, {
      cause: error,
    });
  }
  if (bytes.length > MAX_CONFIG_BYTES) {
    throw new AppError(
      'ERR_CONFIG_UNREADABLE',
      `${file} has ${bytes.length} bytes, a configuration has at most ${MAX_CONFIG_BYTES}`,
    );
  }
  return bytes.toString('utf8');
};

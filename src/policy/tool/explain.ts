import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { z } from 'zod';
import { isAppError, messageOf } from '../../runtime/index.ts';
import type { Answer } from '../bundle/acceptance.ts';
import { readArchive } from '../bundle/archive.ts';
import { BUNDLE_FILE, type Bundle, type CatalogEntry, readBundle } from '../bundle/bundle.ts';
import { parseResult } from '../engine/result.ts';
import { documentOf } from '../engine/wasm.ts';
import { guardAddress } from '../guard.ts';
import type { AskedInput } from './asked-input.ts';
import { EXPLAIN } from './build.ts';
import { INPUT_PATH, LIBRARY_CALL, LOOKS_AT } from './conditions.ts';
import { findOpa } from './opa.ts';
import { type RuleTrace, traceRules } from './rule-trace.ts';
import { runTrial } from './trial.ts';

/** One rule that was asked, and the condition at which it failed. */
export interface ExplainedRule {
  readonly id: string;
  readonly action: CatalogEntry['action'];
  readonly file: string;
  readonly line: number;
  readonly held: boolean;
  readonly failed?: {
    readonly line: number;
    readonly column: number;
    /** The source line. */
    readonly text: string;
    /** What the input has where the line looks. */
    readonly values: Readonly<Record<string, unknown>>;
  };
}

/** What was weighed for one address. */
export interface ExplainedAddress {
  readonly address: string;
  /** The guard in the agent's code, without what only an agent knows (its own listeners, its loopback ports). */
  readonly guard: string | undefined;
  readonly answer: Answer;
  /** Ids of rules and grants whose conditions hold. */
  readonly matched: Readonly<Record<string, readonly string[]>>;
  /** Those of them that are in order and have not ended. */
  readonly live: Readonly<Record<string, readonly string[]>>;
  /** Each grant of this principal on this connection, criterion by criterion. */
  readonly grants: Readonly<Record<string, Readonly<Record<string, boolean>>>>;
  /** Every rule that was asked; empty without OPA. */
  readonly rules: readonly ExplainedRule[];
}

export interface Explanation {
  readonly allow: boolean;
  readonly action: 'publish' | 'stream';
  readonly connection: string;
  readonly target: string;
  readonly bundle: { readonly sha256: string; readonly sequence: number; readonly revision: string };
  readonly addresses: readonly ExplainedAddress[];
  /** Why there are no failing lines; undefined when there are. */
  readonly noLines: string | undefined;
}

const ruleSchema = z.looseObject({ custom: z.looseObject({ id: z.string().catch('unnamed') }) });
const rulesSchema = z.record(z.string(), z.array(ruleSchema.catch({ custom: { id: 'unnamed' } })));
const explanationSchema = z.object({
  result: z.unknown(),
  matched: rulesSchema,
  live: rulesSchema,
  grants: z.record(z.string(), z.record(z.string(), z.boolean())),
});

const idsOf = (rules: z.infer<typeof rulesSchema>): Record<string, string[]> =>
  Object.fromEntries(
    Object.entries(rules).map(([action, list]) => [action, list.map(({ custom }) => custom.id).sort()]),
  );

const SEGMENT = /\.([A-Za-z_]\w*)|\["([^"\]]+)"\]/g;

const valueAt = (input: unknown, path: string): unknown => {
  let value = input;
  for (const [, plain, quoted] of path.matchAll(SEGMENT)) {
    if (typeof value !== 'object' || value === null) return undefined;
    value = (value as Readonly<Record<string, unknown>>)[plain ?? quoted ?? ''];
  }
  return value;
};

const valuesOf = (input: unknown, text: string): Record<string, unknown> => {
  const called = [...text.matchAll(LIBRARY_CALL)].flatMap(([, name = '']) => LOOKS_AT[name] ?? []);
  const named = [...text.matchAll(INPUT_PATH)].map(([path]) => path);
  return Object.fromEntries(
    [...new Set([...called, ...named])].map((path) => [path, valueAt(input, path) ?? null]),
  );
};

interface Sources {
  readonly directory: string;
  readonly catalog: readonly CatalogEntry[];
}

const explainedRule = (
  { directory, catalog }: Sources,
  input: unknown,
  { file, line, held, failed }: RuleTrace,
): ExplainedRule | undefined => {
  const entry = catalog.find((known) => known.file === file && known.line === line);
  const lines = readFileSync(join(directory, file), 'utf8').split('\n');
  // A function or a value of the author's own is a condition of the rule that uses it, not a rule.
  if (entry === undefined) return undefined;
  const text = lines[(failed?.line ?? 0) - 1]?.trim() ?? '';
  return {
    id: entry.id,
    action: entry.action,
    file,
    line,
    held,
    ...(failed === undefined ? {} : { failed: { ...failed, text, values: valuesOf(input, text) } }),
  };
};

/** The bundle's own sources, and the data that the engine has, for OPA to evaluate. */
const unpack = async (bytes: Buffer, data: string, directory: string): Promise<void> => {
  for (const [name, content] of await readArchive(bytes)) {
    if (!name.endsWith('.rego') && name !== BUNDLE_FILE.data) continue;
    mkdirSync(dirname(join(directory, name)), { recursive: true });
    writeFileSync(join(directory, name), name === BUNDLE_FILE.data ? data : content);
  }
};

const ORDER: readonly ExplainedRule['action'][] = ['publish', 'stream', 'deny', 'limits'];

type Lines =
  | { readonly rules: readonly (readonly ExplainedRule[])[]; readonly missing?: undefined }
  | { readonly missing: string };

const linesOf = async (bundle: Bundle, data: string, inputs: readonly unknown[]): Promise<Lines> => {
  const scratch = mkdtempSync(join(tmpdir(), 'sallyport-explain-'));
  try {
    const opa = await findOpa();
    const directory = join(scratch, 'sources');
    await unpack(bundle.bytes, data, directory);
    const rules: ExplainedRule[][] = [];
    for (const input of inputs) {
      const file = join(scratch, 'input.json');
      writeFileSync(file, JSON.stringify(input));
      const traced = await traceRules(opa, directory, file);
      const sources = { directory, catalog: bundle.catalog };
      const explained = traced.flatMap((rule) => explainedRule(sources, input, rule) ?? []);
      rules.push(explained.sort((a, b) => ORDER.indexOf(a.action) - ORDER.indexOf(b.action)));
    }
    return { rules };
  } catch (thrown) {
    const missing = isAppError(thrown, 'ERR_POLICY_OPA_MISSING');
    return { missing: missing ? 'they need OPA, and none was found' : messageOf(thrown) };
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
};

const NOTHING = { matched: {}, live: {}, grants: {} };

const weighedOf = (
  returned: unknown,
): { answer: Answer; weighed: Pick<ExplainedAddress, 'matched' | 'live' | 'grants'> } => {
  const wrapped = z
    .array(z.object({ result: explanationSchema }))
    .length(1)
    .safeParse(returned);
  const value = wrapped.data?.[0]?.result;
  if (value === undefined) {
    return { answer: { ok: false, detail: 'the bundle explains nothing' }, weighed: NOTHING };
  }
  const { result, matched, live, grants } = value;
  return {
    answer: parseResult(result === undefined ? [] : [{ result }]),
    weighed: { matched: idsOf(matched), live: idsOf(live), grants },
  };
};

/**
 * Why a bundle answers an input as it does: the verdict for each address, every grant criterion, matched and live
 * rules and, where OPA is there, the line at which each other rule failed.
 * @param options.withLines false leaves OPA out of it
 * @param options.grantsText JSON of grants that take the place of the bundle's
 * @throws AppError ERR_POLICY_ARCHIVE, ERR_POLICY_BUNDLE
 */
export const explainInput = async (
  bytes: Buffer,
  asked: AskedInput,
  options: { readonly withLines?: boolean; readonly grantsText?: string | undefined } = {},
): Promise<Explanation> => {
  const bundle = await readBundle(bytes);
  const { module, dataText, sha256, sequence, revision } = bundle;
  const inputs = asked.addresses.map((address) => asked.at(address));
  const { grantsText } = options;
  const program = { module, dataText, ...(grantsText === undefined ? {} : { grantsText }) };
  const trial = await runTrial({ program, entrypoint: EXPLAIN, inputs });
  const detail = trial.kind === 'builtins' ? `it needs ${trial.names.join(', ')}` : '';
  const failure = trial.kind === 'failed' ? trial.detail : detail;
  const lines =
    options.withLines === false
      ? { missing: 'not asked for' }
      : await linesOf(
          bundle,
          grantsText === undefined ? dataText : JSON.stringify(documentOf(program)),
          inputs,
        );
  const addresses = asked.addresses.map((address, index): ExplainedAddress => {
    const guard = guardAddress(address, asked.port, {
      allowLoopbackPorts: new Set([asked.port]),
      ownListeners: [],
      allowAuditDatabase: true,
    });
    const { answer, weighed } =
      trial.kind === 'answers'
        ? weighedOf(trial.answers[index])
        : { answer: { ok: false, detail: failure } as const, weighed: NOTHING };
    return {
      address,
      guard: guard.ok ? undefined : `${guard.code}: ${guard.detail}`,
      answer,
      ...weighed,
      rules: lines.missing === undefined ? (lines.rules[index] ?? []) : [],
    };
  });
  return {
    allow: addresses.some(({ guard, answer }) => guard === undefined && answer.ok && answer.verdict.allow),
    action: asked.action,
    connection: asked.connection,
    target: `${asked.host}:${String(asked.port)}`,
    bundle: { sha256, sequence, revision },
    addresses,
    noLines: lines.missing,
  };
};

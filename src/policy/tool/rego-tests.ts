import { z } from 'zod';
import { AppError } from '../../runtime/index.ts';
import type { PolicyErrorCode } from '../errors.ts';
import type { Diagnostic } from './diagnostic.ts';
import { LIBRARY_FILES } from './library.ts';
import { runTool } from './opa.ts';
import { IGNORE_BUT_TESTS } from './sources.ts';

/** How much of one author's file its tests run. */
export interface FileCoverage {
  readonly file: string;
  /** 0 to 100, one decimal */
  readonly percent: number;
  /** 1-based lines that no test runs, as ranges. */
  readonly notCovered: readonly { readonly from: number; readonly to: number }[];
}

export interface RegoTests {
  readonly passed: number;
  readonly failed: number;
  readonly skipped: number;
  /** One per failed test, at the line that fails where OPA tells it. */
  readonly failures: readonly Diagnostic[];
  /** Authors' files only; empty when a test fails. */
  readonly coverage: readonly FileCoverage[];
}

const locationSchema = z.object({ file: z.string(), row: z.number(), col: z.number() });
const resultsSchema = z.array(
  z.object({
    location: locationSchema,
    package: z.string(),
    name: z.string(),
    fail: z.boolean().optional(),
    skip: z.boolean().optional(),
    error: z.unknown().optional(),
    trace: z.array(z.object({ Op: z.string(), Location: locationSchema.nullish() })).optional(),
  }),
);
type Result = z.infer<typeof resultsSchema>[number];

const rangeSchema = z.object({
  start: z.object({ row: z.number() }),
  end: z.object({ row: z.number() }),
});
const coverageSchema = z.object({
  files: z.record(
    z.string(),
    z.object({ coverage: z.number().optional(), not_covered: z.array(rangeSchema).optional() }),
  ),
});

/** Traces are long: only so many failures are run again for the line that fails. */
const MAX_TRACED = 20;

const failed = ({ fail, error }: Result): boolean => fail === true || error !== undefined;

const runTests = async (opa: string, directory: string, more: readonly string[]): Promise<Result[]> => {
  const args = ['test', '.', '-b', '--format', 'json', ...IGNORE_BUT_TESTS, ...more];
  const { stdout, stderr } = await runTool(opa, args, directory);
  try {
    return resultsSchema.parse(JSON.parse(stdout.trim() === '' ? '[]' : stdout));
  } catch (cause) {
    // Neither tests nor results: OPA could not load the sources.
    const said = (stderr || stdout).trim();
    throw new AppError<PolicyErrorCode>('ERR_POLICY_BUILD', `opa test fails: ${said}`, { cause });
  }
};

const escaped = (text: string): string => text.replace(/[.*+?^${}()|[\]\\]/g, '\\$&');

const failureOf = (result: Result): Diagnostic => {
  const { location, name, error, trace } = result;
  const line = trace?.findLast(({ Op, Location }) => Op === 'Fail' && Location?.file === location.file);
  const at = line?.Location ?? location;
  const why = error === undefined ? 'fails' : `ends with an error: ${JSON.stringify(error)}`;
  return {
    file: location.file,
    line: at.row,
    column: at.col,
    rule: 'opa test',
    message: `${name} ${why}${line === undefined ? '' : ' at this line'}`,
  };
};

const failuresOf = async (
  opa: string,
  directory: string,
  results: readonly Result[],
): Promise<Diagnostic[]> => {
  const names = results.slice(0, MAX_TRACED).map((result) => escaped(`${result.package}.${result.name}`));
  if (names.length === 0) return [];
  const again = await runTests(opa, directory, ['-v', '--run', `^(${names.join('|')})$`]);
  const traced = new Map(again.map((result) => [`${result.package}.${result.name}`, result]));
  return results.map((result) => failureOf(traced.get(`${result.package}.${result.name}`) ?? result));
};

const PERCENT_STEPS = 10;

/** Ranges of lines, joined where they touch. */
const linesOf = (ranges: readonly z.infer<typeof rangeSchema>[]): { from: number; to: number }[] => {
  const joined: { from: number; to: number }[] = [];
  for (const { start, end } of [...ranges].sort((a, b) => a.start.row - b.start.row)) {
    const last = joined.at(-1);
    if (last !== undefined && start.row <= last.to + 1) last.to = Math.max(last.to, end.row);
    else joined.push({ from: start.row, to: end.row });
  }
  return joined;
};

const coverageOf = async (opa: string, directory: string): Promise<FileCoverage[]> => {
  const args = ['test', '.', '-b', '--format', 'json', '--coverage', ...IGNORE_BUT_TESTS];
  const { stdout, stderr } = await runTool(opa, args, directory);
  const parsed = coverageSchema.safeParse(JSON.parse(stdout.trim() === '' ? '{"files": {}}' : stdout));
  if (!parsed.success) {
    throw new AppError<PolicyErrorCode>('ERR_POLICY_BUILD', `opa test --coverage fails: ${stderr.trim()}`);
  }
  return Object.entries(parsed.data.files)
    .filter(([file]) => !LIBRARY_FILES.includes(file) && !file.endsWith('_test.rego'))
    .map(([file, { coverage, not_covered: notCovered }]) => ({
      file,
      percent: Math.floor((coverage ?? 0) * PERCENT_STEPS) / PERCENT_STEPS,
      notCovered: linesOf(notCovered ?? []),
    }))
    .sort((a, b) => a.file.localeCompare(b.file));
};

/**
 * Runs the Rego tests of a policy directory, and measures what of the authors' files they run.
 * @throws AppError ERR_POLICY_BUILD when OPA cannot load the sources
 */
export const runRegoTests = async (opa: string, directory: string): Promise<RegoTests> => {
  const results = await runTests(opa, directory, []);
  const wrong = results.filter(failed);
  const skipped = results.filter(({ skip }) => skip === true).length;
  return {
    passed: results.length - wrong.length - skipped,
    failed: wrong.length,
    skipped,
    failures: await failuresOf(opa, directory, wrong),
    coverage: wrong.length === 0 ? await coverageOf(opa, directory) : [],
  };
};

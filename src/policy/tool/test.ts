import { resolve } from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import { type Answer, askVector, judgeAnswer } from '../bundle/acceptance.ts';
import { readBundle, type Vector } from '../bundle/bundle.ts';
import type { Verdict } from '../decision.ts';
import { buildBundle } from './build.ts';
import { checkPolicies, isRefusal } from './check.ts';
import type { Diagnostic } from './diagnostic.ts';
import { withEngine } from './engine.ts';
import { askOpa } from './opa-verdicts.ts';
import { type RegoTests, runRegoTests } from './rego-tests.ts';
import { type LocatedVector, readVectors } from './vectors.ts';

/** An engine's answer as a vector's author writes it, or why there is none. */
export type ShownAnswer =
  | { readonly allow: boolean; readonly rule: string | null; readonly reasons: readonly string[] }
  | { readonly error: string };

export interface VectorReport {
  readonly name: string;
  readonly file: string;
  /** 1-based */
  readonly line: number;
  /** 1-based */
  readonly column: number;
  readonly ok: boolean;
  readonly expected: Vector['expect'];
  /** The wasm engine's, which is the one that decides. */
  readonly actual: ShownAnswer;
  /** OPA's own evaluator's. */
  readonly opa: ShownAnswer;
  /** Every way in which an answer is not the expected one or the two are not one; empty when ok. */
  readonly problems: readonly string[];
}

export interface PolicyTestReport {
  /** Everything passed, and there was something. */
  readonly ok: boolean;
  readonly tests: RegoTests;
  readonly vectors: readonly VectorReport[];
  /** What `policy check` finds, warnings too: tests that pass show nothing of a rule that never counts. */
  readonly findings: readonly Diagnostic[];
}

export const shownAnswer = (answer: Answer): ShownAnswer => {
  if (!answer.ok) return { error: answer.detail };
  const { allow, rule, reasons } = answer.verdict;
  return { allow, rule, reasons: [...new Set(reasons.map(({ code }) => code))] };
};

const VERDICT_FIELDS = ['allow', 'rule', 'rules', 'reasons', 'obligations', 'recheck_at'] as const;

/** The fields of the verdict in which two answers to one input differ; `error` when one of them has no verdict. */
export const changedFields = (one: Answer, other: Answer): string[] => {
  if (one.ok && other.ok) {
    return VERDICT_FIELDS.filter((field) => !isDeepStrictEqual(one.verdict[field], other.verdict[field]));
  }
  // Two failures are worded differently by two engines, and deny alike.
  return one.ok === other.ok ? [] : ['error'];
};

const fieldText = (answer: Answer, field: string): string =>
  answer.ok ? JSON.stringify(answer.verdict[field as keyof Verdict] ?? 'a verdict') : answer.detail;

/** Where the two engines' answers to one input differ: the whole verdict, not only what a vector expects. */
export const differences = (wasm: Answer, opa: Answer): string[] =>
  changedFields(wasm, opa).map(
    (field) => `${field}: wasm says ${fieldText(wasm, field)}, opa ${fieldText(opa, field)}`,
  );

const reportOf = ({ vector, file, line, column }: LocatedVector, wasm: Answer, opa: Answer): VectorReport => {
  const problems = [...judgeAnswer(vector, wasm), ...differences(wasm, opa)];
  return {
    name: vector.name,
    file,
    line,
    column,
    ok: problems.length === 0,
    expected: vector.expect,
    actual: shownAnswer(wasm),
    opa: shownAnswer(opa),
    problems,
  };
};

/**
 * Runs every Rego test, then every vector through the wasm engine and through OPA's own evaluator: where the two
 * do not agree in every field, the vector fails, whatever it expects.
 * @param opa path of the OPA executable; see findOpa
 * @throws AppError ERR_POLICY_SOURCE, ERR_POLICY_BUILD, ERR_POLICY_BUILTIN when there is nothing that could be run
 */
export const testPolicies = async (directory: string, opa: string): Promise<PolicyTestReport> => {
  const root = resolve(directory);
  const located = readVectors(root);
  const { bytes } = await buildBundle(root, undefined, { opa });
  const findings = (await checkPolicies(root, opa)).filter(
    (finding) => finding.severity === 'warning' || isRefusal(finding),
  );
  const tests = await runRegoTests(opa, root);
  const byOpa = await askOpa(
    opa,
    root,
    located.map(({ vector }) => vector.input),
  );
  const vectors = await withEngine(await readBundle(bytes), async (engine) => {
    const reports: VectorReport[] = [];
    for (const [index, one] of located.entries()) {
      const opaAnswer = byOpa[index] ?? { ok: false, detail: 'no answer' };
      reports.push(reportOf(one, await askVector(engine, one.vector), opaAnswer));
    }
    return reports;
  });
  const ran = tests.passed + tests.failed + vectors.length;
  return {
    ok: ran > 0 && tests.failed === 0 && vectors.every(({ ok }) => ok),
    tests,
    vectors,
    findings,
  };
};

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { isAppError } from '../../runtime/index.ts';
import type { Answer } from '../bundle/acceptance.ts';
import { ENTRYPOINT } from '../engine/messages.ts';
import { parseResult } from '../engine/result.ts';
import { runOpa } from './opa.ts';
import { IGNORE_ARGS } from './sources.ts';

const DECISION = ENTRYPOINT.stream.split('/').slice(0, -1).join('.');
/** Every input by its own action, in one evaluation: a process for each would cost 30 ms. */
const QUERY = `{format_int(i, 10): answer | some i, asked in input; answer := data.${DECISION}[asked.action] with input as asked}`;

interface Evaluated {
  readonly result?: readonly { readonly expressions: readonly { readonly value: unknown }[] }[];
}

const evaluate = async (
  opa: string,
  directory: string,
  file: string,
  inputs: readonly unknown[],
): Promise<Answer[]> => {
  writeFileSync(file, JSON.stringify(inputs));
  const args = ['eval', '-f', 'json', '-i', file, '-b', '.', ...IGNORE_ARGS, QUERY];
  let printed: string;
  try {
    printed = await runOpa(opa, args, directory);
  } catch (thrown) {
    if (!isAppError(thrown, 'ERR_POLICY_BUILD')) throw thrown;
    // One input whose evaluation fails takes the others' answers with it: they are asked apart.
    if (inputs.length === 1) return [{ ok: false, detail: thrown.message }];
    const half = Math.ceil(inputs.length / 2);
    const first = await evaluate(opa, directory, file, inputs.slice(0, half));
    return [...first, ...(await evaluate(opa, directory, file, inputs.slice(half)))];
  }
  const { result } = JSON.parse(printed) as Evaluated;
  const answers = (result?.[0]?.expressions[0]?.value ?? {}) as Readonly<Record<string, unknown>>;
  return inputs.map((_, index) => {
    const value = answers[String(index)];
    return parseResult(value === undefined ? [] : [{ result: value }]);
  });
};

/**
 * What OPA's own evaluator answers to each input over the sources of a policy directory, read as strictly as an
 * engine's answers are.
 * @throws AppError when OPA does not run at all
 */
export const askOpa = async (
  opa: string,
  directory: string,
  inputs: readonly unknown[],
): Promise<Answer[]> => {
  if (inputs.length === 0) return [];
  const scratch = mkdtempSync(join(tmpdir(), 'sallyport-opa-'));
  try {
    return await evaluate(opa, directory, join(scratch, 'input.json'), inputs);
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
};

import { isDeepStrictEqual } from 'node:util';
import { z } from 'zod';
import { readBundle } from '../bundle/bundle.ts';
import { type JudgedAddress, mergeVerdicts } from '../decide.ts';
import type { Decision } from '../decision.ts';
import { withEngine } from '../tool/engine.ts';

/** What is compared of a decision. The close reason is not: it depends on whether the stream was live. */
export type DecidedFacts = Pick<
  Decision,
  'allow' | 'rule' | 'rules' | 'reasons' | 'obligations' | 'recheck_at' | 'candidates'
>;

/** A decision that policy made, as it was recorded. */
export interface RecordedFacts extends DecidedFacts {
  readonly action: 'publish' | 'stream';
  /** The canonical input, whole. */
  readonly input: string;
}

/** What decided. */
export interface DecidingPolicy {
  readonly bundle: Buffer;
  /** JSON of the grants that took the place of the bundle's. */
  readonly grantsText: string | undefined;
}

export interface Difference {
  readonly name: keyof DecidedFacts | 'verdict' | 'addresses';
  readonly recorded: unknown;
  readonly now: unknown;
}

/** Milliseconds: what an agent once had a verdict of must not fail here because this machine is busy. */
const BUDGET_MS = 5_000;

const NAMES = ['allow', 'rule', 'rules', 'reasons', 'obligations', 'recheck_at', 'candidates'] as const;

const targetSchema = z.object({ target: z.object({ addresses: z.array(z.string()) }) });

/** The addresses that the input says were resolved; undefined when it is no such input. */
const addressesOf = (input: string): readonly string[] | undefined => {
  try {
    return targetSchema.safeParse(JSON.parse(input)).data?.target.addresses;
  } catch {
    return undefined;
  }
};

/** Candidates as they went to the engine; what guard or managed settings refused is taken as it was recorded. */
const candidatesOf = ({ candidates, reasons }: RecordedFacts): JudgedAddress[] =>
  candidates.map(({ address, verdict, reasons: codes }) => {
    if (verdict === 'allowed' || verdict === 'denied') return { address, refused: undefined };
    const code = (codes[0] ?? 'guard_denied') as NonNullable<JudgedAddress['refused']>['code'];
    const told = reasons.find((reason) => reason.code === code && reason.args['address'] === address);
    const detail = told?.args['detail'];
    return { address, refused: { by: verdict, code, detail: typeof detail === 'string' ? detail : '' } };
  });

/**
 * Makes a decision of policy again, in the engine that agents have, and says in what it differs from what was recorded;
 * empty when it is the same. Candidates that are not the addresses of the input are a difference by themselves: what was
 * decided about others, or about fewer, was not decided on that input.
 * @param asRecorded brings a value into the form in which it would have been recorded
 * @throws AppError ERR_POLICY_ARCHIVE, ERR_POLICY_BUNDLE, ERR_POLICY_BUILTIN, ERR_POLICY_ENGINE
 */
export const decideAgain = async (
  { bundle: bytes, grantsText }: DecidingPolicy,
  recorded: RecordedFacts,
  asRecorded: (value: unknown) => unknown,
): Promise<readonly Difference[]> => {
  const recordedAddresses = recorded.candidates.map(({ address }) => address);
  const inputAddresses = addressesOf(recorded.input);
  if (!isDeepStrictEqual(recordedAddresses, inputAddresses))
    return [{ name: 'addresses', recorded: recordedAddresses, now: inputAddresses ?? null }];
  const { module, dataText } = await readBundle(bytes);
  const program = { module, dataText, ...(grantsText === undefined ? {} : { grantsText }) };
  const candidates = candidatesOf(recorded);
  const addresses = candidates.filter(({ refused }) => refused === undefined).map(({ address }) => address);
  const { action, input } = recorded;
  const outcome = await withEngine(
    program,
    (engine) => engine.evaluate({ action, input, addresses }, 'again', 'open'),
    undefined,
    BUDGET_MS,
  );
  if (outcome.kind === 'failed') {
    const now = `none: ${outcome.reason}: ${outcome.detail}`;
    return [{ name: 'verdict', recorded: recorded.allow ? 'allow' : 'deny', now }];
  }
  const merged = mergeVerdicts(candidates, outcome.verdicts, 'open');
  return NAMES.flatMap((name) => {
    const now = asRecorded(merged[name]);
    return isDeepStrictEqual(now, recorded[name]) ? [] : [{ name, recorded: recorded[name], now }];
  });
};

import { AppError } from '../../runtime/index.ts';
import type { Verdict } from '../decision.ts';
import type { EnginePool, EvaluationOutcome } from '../engine/pool.ts';
import type { PolicyErrorCode } from '../errors.ts';
import type { ChangedDecision, PastDecision, ReplayAnswer, ReplayChange } from './recorded.ts';

/**
 * Decisions given to the engine at a time. Each may take 100 ms and waits for those before it: two threads need 13 s
 * for so many, a fifth of what the engine lets them wait before it calls itself overloaded.
 */
export const MAX_EVALUATING = 256;
/** A busy machine can take the time of an evaluation that needs little: one that ran out of it is made again this often. */
export const MAX_RETRIES = 2;

/** What of an input a report names. */
interface Named {
  readonly connection: { readonly name: string };
  readonly target: { readonly host: string; readonly port: number };
  readonly key?: { readonly principal: string };
  readonly listener: { readonly principal: string };
}

export interface ReplayCounts {
  /** Recorded decisions, and how many events they were recorded in. */
  decisions: number;
  events: number;
  same: number;
  newly_denied: number;
  newly_allowed: number;
  rule: number;
  reasons: number;
  error: number;
  /** Not made by policy, so that another policy would have changed nothing: by what they were made. */
  readonly not_compared: Record<string, number>;
}

export const noCounts = (): ReplayCounts => ({
  decisions: 0,
  events: 0,
  same: 0,
  newly_denied: 0,
  newly_allowed: 0,
  rule: 0,
  reasons: 0,
  error: 0,
  not_compared: {},
});

/** As `decide` puts the verdicts of several addresses together: one allowed address allows. */
const answerOf = (verdicts: readonly Verdict[]): ReplayAnswer => {
  const allowed = verdicts.filter(({ allow }) => allow);
  const deciding = allowed.length > 0 ? allowed : verdicts;
  return {
    allow: allowed.length > 0,
    rule: allowed.length > 0 ? (allowed.map(({ rule }) => rule).sort()[0] ?? null) : null,
    reasons: [...new Set(deciding.flatMap(({ reasons }) => reasons.map(({ code }) => code)))],
  };
};

const sameSet = (left: readonly string[], right: readonly string[]): boolean => {
  const set = new Set(left);
  return set.size === new Set(right).size && right.every((code) => set.has(code));
};

const changeOf = (was: ReplayAnswer, now: ReplayAnswer): ReplayChange | undefined => {
  if (was.allow !== now.allow) return was.allow ? 'newly_denied' : 'newly_allowed';
  if (was.allow) return was.rule === now.rule ? undefined : 'rule';
  return sameSet(was.reasons, now.reasons) ? undefined : 'reasons';
};

/**
 * Decisions of the past, made again by a draft in an engine of its own, with the input that was recorded, its time
 * included. Only what policy decided is compared: what the guard, a limit or the audit refused would be refused again.
 */
export class Replay {
  readonly counts: ReplayCounts = noCounts();
  readonly #engine: Pick<EnginePool, 'evaluate'>;
  readonly #onChange: (changed: ChangedDecision) => void;

  constructor(engine: Pick<EnginePool, 'evaluate'>, onChange: (changed: ChangedDecision) => void) {
    this.#engine = engine;
    this.#onChange = onChange;
  }

  /**
   * Makes a page of decisions again; changes are told in its order.
   * @throws AppError ERR_POLICY_REPLAY when a recorded input cannot be read
   */
  async run(page: readonly PastDecision[]): Promise<void> {
    const outcomes: (EvaluationOutcome | undefined)[] = [];
    const waiting = page.entries();
    const lane = async (): Promise<void> => {
      for (const [index, past] of waiting) outcomes[index] = await this.#evaluate(past);
    };
    await Promise.all(Array.from({ length: MAX_EVALUATING }, lane));
    for (const [index, past] of page.entries()) this.#compare(past, outcomes[index]);
  }

  async #evaluate(past: PastDecision): Promise<EvaluationOutcome | undefined> {
    if (past.decidedBy !== 'policy' || past.input === undefined || past.addresses.length === 0)
      return undefined;
    const { action, input, addresses } = past;
    // Each its own kind: failures of one must not be answered by the breaker for another.
    const ask = (): Promise<EvaluationOutcome> =>
      this.#engine.evaluate({ action, input, addresses }, past.eventId, 'open');
    let outcome = await ask();
    for (let retry = 0; retry < MAX_RETRIES; retry += 1) {
      if (outcome.kind !== 'failed' || outcome.reason !== 'policy_timeout') break;
      outcome = await ask();
    }
    return outcome;
  }

  #compare(past: PastDecision, outcome: EvaluationOutcome | undefined): void {
    const { counts } = this;
    counts.events += 1;
    counts.decisions += past.count;
    if (outcome === undefined) {
      const by = past.decidedBy === 'policy' ? 'no input recorded' : past.decidedBy;
      counts.not_compared[by] = (counts.not_compared[by] ?? 0) + past.count;
      return;
    }
    const was: ReplayAnswer = { allow: past.allow, rule: past.rule, reasons: past.reasons };
    const now = outcome.kind === 'verdicts' ? answerOf(outcome.verdicts) : undefined;
    const change = now === undefined ? 'error' : changeOf(was, now);
    if (change === undefined) {
      counts.same += past.count;
      return;
    }
    counts[change] += past.count;
    const { connection, target, key, listener } = this.#named(past);
    this.#onChange({
      change,
      eventId: past.eventId,
      at: past.at,
      action: past.action,
      connection: connection.name,
      principal: (key ?? listener).principal,
      target: `${target.host}:${String(target.port)}`,
      count: past.count,
      was,
      now,
      detail: outcome.kind === 'failed' ? `${outcome.reason}: ${outcome.detail}` : undefined,
    });
  }

  #named({ input, eventId }: PastDecision): Named {
    try {
      return JSON.parse(input ?? '') as Named;
    } catch (cause) {
      const code: PolicyErrorCode = 'ERR_POLICY_REPLAY';
      throw new AppError(code, `event ${eventId} holds an input that is no json`, { cause });
    }
  }
}

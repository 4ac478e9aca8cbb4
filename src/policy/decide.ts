import type { CloseReason } from '../runtime/index.ts';
import { normalizeCandidates } from './address.ts';
import {
  type Decision,
  type DecisionCandidate,
  type DecisionReason,
  DEFAULT_RECHECK_SECONDS,
  type Obligations,
  type Verdict,
} from './decision.ts';
import type { Lane } from './engine/pool.ts';
import { type GuardSettings, guardAddress } from './guard.ts';
import type { Decider } from './host-contract.ts';
import { canonicalInput, type PolicyInputBase } from './input.ts';

const SECOND_MS = 1_000;
const NO_RULES = { publish: [], stream: [] } as const;
const NO_OBLIGATIONS: Obligations = { recheck_seconds: DEFAULT_RECHECK_SECONDS };

interface Candidate {
  readonly address: string;
  readonly refused: { readonly code: 'guard_denied' | 'loop'; readonly detail: string } | undefined;
}

const guarded = (base: PolicyInputBase, guard: GuardSettings): Candidate[] =>
  base.target.addresses.map((address) => {
    const verdict = guardAddress(address, base.target.port, guard);
    return { address, refused: verdict.ok ? undefined : verdict };
  });

const guardReasons = (candidates: readonly Candidate[]): DecisionReason[] =>
  candidates.flatMap(({ address, refused }) =>
    refused === undefined ? [] : [{ code: refused.code, args: { address, detail: refused.detail } }],
  );

const shown = ({ address, refused }: Candidate): DecisionCandidate => ({
  address,
  verdict: refused === undefined ? 'denied' : 'guard',
  reasons: refused === undefined ? [] : [refused.code],
});

/** The lowest value of each obligation over all addresses that may be dialled. */
const strictest = (verdicts: readonly Verdict[]): Obligations => {
  const lowest: Record<string, number> = {};
  for (const { obligations } of verdicts) {
    for (const [name, value] of Object.entries(obligations) as [string, number][]) {
      lowest[name] = Math.min(value, lowest[name] ?? Number.POSITIVE_INFINITY);
    }
  }
  return { ...NO_OBLIGATIONS, ...lowest };
};

const union = (lists: readonly (readonly string[])[]): string[] => [...new Set(lists.flat())].sort();

const unionReasons = (verdicts: readonly Verdict[]): DecisionReason[] => {
  const byText = new Map<string, DecisionReason>();
  for (const { reasons } of verdicts) {
    for (const reason of reasons) byText.set(JSON.stringify(reason), reason);
  }
  return [...byText.values()];
};

const earliest = (verdicts: readonly Verdict[]): string | null =>
  verdicts
    .map(({ recheck_at: at }) => at)
    .filter((at) => at !== null)
    .sort()[0] ?? null;

/** The close reason of a denial by policy: of an open `policy_denied`, of a live stream what changed. */
const reasonOf = (reasons: readonly DecisionReason[], lane: Lane): CloseReason => {
  const has = (code: string): boolean => reasons.some((reason) => reason.code === code);
  if (has('proof_required')) return 'proof_required';
  if (lane === 'open') return 'policy_denied';
  return has('rule_expired') ? 'grant_expired' : 'policy_changed';
};

const merge = (
  candidates: readonly Candidate[],
  verdicts: readonly Verdict[],
  lane: Lane,
): Omit<Decision, 'input' | 'generation' | 'eval_us' | 'bundle'> => {
  let next = 0;
  const judged = candidates.map((candidate) => {
    const verdict = candidate.refused === undefined ? verdicts[next++] : undefined;
    return { candidate, verdict };
  });
  const allowed = judged.filter(({ verdict }) => verdict?.allow === true);
  const allow = allowed.length > 0;
  const deciding = allow ? allowed.flatMap(({ verdict }) => verdict ?? []) : verdicts;
  const reasons = [...unionReasons(deciding), ...(allow ? [] : guardReasons(candidates))];
  const publish = union(deciding.map(({ rules }) => rules.publish));
  const stream = union(deciding.map(({ rules }) => rules.stream));
  return {
    allow,
    decided_by: 'policy',
    reason: allow ? undefined : reasonOf(reasons, lane),
    rule: allow ? (deciding.map(({ rule }) => rule).sort()[0] ?? null) : null,
    rules: allow ? { publish, stream } : NO_RULES,
    reasons,
    obligations: allow ? strictest(deciding) : NO_OBLIGATIONS,
    recheck_at: allow ? earliest(deciding) : null,
    allowed_addresses: allowed.map(({ candidate }) => candidate.address),
    candidates: judged.map(({ candidate, verdict }) =>
      verdict === undefined
        ? shown(candidate)
        : {
            address: candidate.address,
            verdict: verdict.allow ? 'allowed' : 'denied',
            reasons: verdict.reasons.map(({ code }) => code),
          },
    ),
  };
};

/** What failures are attributed to: one principal's streams of one connection, or its publishing. */
const kindOf = (base: PolicyInputBase): string =>
  `${base.connection.name} ${base.action === 'stream' ? (base.key?.principal ?? '') : 'publish'}`;

/**
 * Decides one publish or stream over all addresses the target's name resolved to. Normalises the addresses,
 * asks the guard about each, then the engine about each that is left; nothing but an address that was allowed
 * may be dialled. Everything that goes wrong is a denial.
 * @param lane re-checks of live streams run behind opens
 * @throws AppError ERR_POLICY_ADDRESS when an address is none
 */
export const decide = async (
  host: Decider,
  base: PolicyInputBase,
  guard: GuardSettings,
  lane: Lane = 'open',
): Promise<Decision> => {
  const addresses = normalizeCandidates(base.target.addresses);
  const target = { host: base.target.host, port: base.target.port, addresses };
  const normalized: PolicyInputBase = { ...base, target };
  const input = canonicalInput(normalized);
  const candidates = guarded(normalized, guard);
  const { active } = host;
  const common = {
    input,
    generation: host.generation,
    eval_us: 0,
    ...(active === undefined
      ? {}
      : { bundle: { sha256: active.sha256, revision: active.revision, sequence: active.sequence } }),
  };
  const deny = (decidedBy: 'guard' | 'engine', reason: CloseReason, reasons: DecisionReason[]): Decision => ({
    ...common,
    allow: false,
    decided_by: decidedBy,
    reason,
    rule: null,
    rules: NO_RULES,
    reasons,
    obligations: NO_OBLIGATIONS,
    recheck_at: null,
    allowed_addresses: [],
    candidates: candidates.map(shown),
  });
  const open = candidates.filter(({ refused }) => refused === undefined);
  if (open.length === 0) {
    const first = candidates[0]?.refused?.code ?? 'dns_failure';
    return deny('guard', first, guardReasons(candidates));
  }
  if (active === undefined) return deny('engine', 'no_bundle', [{ code: 'no_bundle', args: {} }]);
  const { stale } = host;
  if (stale !== undefined) {
    const seconds = (ms: number | undefined): number | null =>
      ms === undefined ? null : Math.floor(ms / SECOND_MS);
    const args = { age_seconds: seconds(stale.ageMs), max_age_seconds: seconds(stale.maxAgeMs) };
    return deny('engine', 'no_bundle', [{ code: 'bundle_stale', args }]);
  }
  const request = { action: base.action, input, addresses: open.map(({ address }) => address) };
  const outcome = await host.evaluate(request, kindOf(base), lane);
  if (outcome.kind === 'failed') {
    const { reason, detail, evalUs } = outcome;
    return { ...deny('engine', reason, [{ code: reason, args: { detail } }]), eval_us: evalUs };
  }
  if (outcome.verdicts.length !== open.length) {
    return deny('engine', 'policy_error', [
      { code: 'policy_error', args: { detail: 'verdicts are missing' } },
    ]);
  }
  return { ...common, ...merge(candidates, outcome.verdicts, lane), eval_us: outcome.evalUs };
};

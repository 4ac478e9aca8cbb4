import type { CloseReason } from '../runtime/index.ts';
import { normalizeCandidates } from './address.ts';
import {
  type DecidedBy,
  type Decision,
  type DecisionBundle,
  type DecisionCandidate,
  type DecisionReason,
  DEFAULT_RECHECK_SECONDS,
  type Obligations,
  type Verdict,
} from './decision.ts';
import type { Lane } from './engine/pool.ts';
import { type GuardSettings, guardAddress } from './guard.ts';
import type { ActiveBundle, Decider } from './host-contract.ts';
import { canonicalInput, type PolicyInputBase } from './input.ts';
import { type ManagedDetail, ManagedSettings, type PolicyInUse } from './managed/managed-settings.ts';

const SECOND_MS = 1_000;
const NO_RULES = { publish: [], stream: [] } as const;
const NO_OBLIGATIONS: Obligations = { recheck_seconds: DEFAULT_RECHECK_SECONDS };

interface Refusal {
  readonly by: 'guard' | 'managed';
  readonly code: 'guard_denied' | 'loop' | 'managed_denied' | 'proof_required';
  readonly detail: string;
}

/** An address that might be dialled, and why guard or managed settings refuse it. */
export interface JudgedAddress {
  readonly address: string;
  readonly refused: Refusal | undefined;
}

/** What an agent holds every decision against before the bundle is asked, and which nothing in a bundle can widen. */
export interface Bounds {
  readonly guard: GuardSettings;
  readonly managed: ManagedSettings;
  /** What the host was opened with; managed settings may require something else. */
  readonly policyInUse?: PolicyInUse;
}

const managedRefusal = (detail: ManagedDetail | undefined): Refusal | undefined =>
  detail && { by: 'managed', code: detail === 'proof_required' ? detail : 'managed_denied', detail };

/** Why managed settings refuse all of it, whatever the address. */
const barred = (
  base: PolicyInputBase,
  { managed, policyInUse }: Bounds,
  sequence: number | undefined,
): Refusal | undefined =>
  managedRefusal(
    managed.barsRelay(base.relay.node) ??
      (policyInUse && managed.barsPolicy(policyInUse)) ??
      (sequence === undefined ? undefined : managed.barsSequence(sequence)) ??
      managed.barsKeys(base),
  );

const refusal = (base: PolicyInputBase, address: string, { guard, managed }: Bounds): Refusal | undefined => {
  const { host, port } = base.target;
  const verdict = guardAddress(address, port, guard);
  if (!verdict.ok) return { by: 'guard', code: verdict.code, detail: verdict.detail };
  return managedRefusal(managed.barsTarget(host, port, address));
};

const refusalReasons = (candidates: readonly JudgedAddress[]): DecisionReason[] =>
  candidates.flatMap(({ address, refused }) =>
    refused === undefined ? [] : [{ code: refused.code, args: { address, detail: refused.detail } }],
  );

const shown = ({ address, refused }: JudgedAddress): DecisionCandidate => ({
  address,
  verdict: refused === undefined ? 'denied' : refused.by,
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

/** The decision that verdicts, one for each candidate that nothing refused, come to together. */
export const mergeVerdicts = (
  candidates: readonly JudgedAddress[],
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
  const reasons = [...unionReasons(deciding), ...(allow ? [] : refusalReasons(candidates))];
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

/** A question with normalised addresses, and what is refused of it without asking the engine. */
interface Judged {
  readonly input: string;
  readonly base: PolicyInputBase;
  readonly candidates: readonly JudgedAddress[];
  readonly common: Pick<Decision, 'input' | 'generation' | 'eval_us' | 'bundle' | 'managed_sha256'>;
  /** Set when nothing is left for the engine. */
  readonly denied: Decision | undefined;
  readonly deny: (by: DecidedBy, reason: CloseReason, reasons: readonly DecisionReason[]) => Decision;
}

/** What decides, as decisions and the trail name it. */
export const decisionBundle = ({ sha256, revision, sequence, grants }: ActiveBundle): DecisionBundle => ({
  sha256,
  revision,
  sequence,
  ...(grants === undefined ? {} : { grants_sha256: grants.sha256 }),
});

const judge = (host: Decider, asked: PolicyInputBase, bounds: Bounds): Judged => {
  const addresses = normalizeCandidates(asked.target.addresses);
  const target = { host: asked.target.host, port: asked.target.port, addresses };
  const base: PolicyInputBase = { ...asked, target };
  const input = canonicalInput(base);
  const { active } = host;
  const bar = barred(base, bounds, active?.sequence);
  const candidates = addresses.map((address) => ({
    address,
    refused: bar ?? refusal(base, address, bounds),
  }));
  const { sha256 } = bounds.managed;
  const common = {
    input,
    generation: host.generation,
    eval_us: 0,
    ...(active === undefined ? {} : { bundle: decisionBundle(active) }),
    ...(sha256 === undefined ? {} : { managed_sha256: sha256 }),
  };
  const deny: Judged['deny'] = (by, reason, reasons) => ({
    ...common,
    allow: false,
    decided_by: by,
    reason,
    rule: null,
    rules: NO_RULES,
    reasons,
    obligations: NO_OBLIGATIONS,
    recheck_at: null,
    allowed_addresses: [],
    candidates: candidates.map(shown),
  });
  let denied: Decision | undefined;
  if (bar !== undefined) {
    denied = deny('managed', bar.code, [{ code: bar.code, args: { detail: bar.detail } }]);
  } else if (candidates.every(({ refused }) => refused !== undefined)) {
    const first = candidates[0]?.refused;
    denied = deny(first?.by ?? 'guard', first?.code ?? 'dns_failure', refusalReasons(candidates));
  }
  return { input, base, candidates, common, denied, deny };
};

/**
 * The denial of a live stream that managed settings no longer allow over one of the addresses it uses, without asking
 * the engine: a change cuts in its own tick. Undefined when they allow it.
 * @throws AppError ERR_POLICY_ADDRESS when an address is none
 */
export const managedDenial = (
  host: Decider,
  base: PolicyInputBase,
  bounds: Bounds,
  addresses: readonly string[],
): Decision | undefined => {
  const { denied, candidates, deny } = judge(
    host,
    { ...base, target: { ...base.target, addresses } },
    bounds,
  );
  if (denied?.decided_by === 'managed') return denied;
  const refused = candidates.find((candidate) => candidate.refused?.by === 'managed')?.refused;
  return refused && deny('managed', refused.code, refusalReasons(candidates));
};

/**
 * Decides one publish or stream over all addresses the target's name resolved to. Normalises the addresses,
 * asks managed settings and the guard about each, then the engine about each that is left; nothing but an address that
 * was allowed may be dialled. Everything that goes wrong is a denial.
 * @param lane re-checks of live streams run behind opens
 * @throws AppError ERR_POLICY_ADDRESS when an address is none
 */
export const decideWithin = async (
  host: Decider,
  asked: PolicyInputBase,
  bounds: Bounds,
  lane: Lane = 'open',
): Promise<Decision> => {
  const { input, base, candidates, common, denied, deny } = judge(host, asked, bounds);
  if (denied !== undefined) return denied;
  if (host.active === undefined) {
    const { withdrawn } = host;
    const none = { code: 'no_bundle', args: {} };
    const untrusted = { code: 'bundle_untrusted', args: { detail: withdrawn?.message ?? null } };
    return deny('engine', 'no_bundle', [withdrawn === undefined ? none : untrusted]);
  }
  const { stale } = host;
  if (stale !== undefined) {
    const seconds = (ms: number | undefined): number | null =>
      ms === undefined ? null : Math.floor(ms / SECOND_MS);
    const args = { age_seconds: seconds(stale.ageMs), max_age_seconds: seconds(stale.maxAgeMs) };
    return deny('engine', 'no_bundle', [{ code: 'bundle_stale', args }]);
  }
  const open = candidates.filter(({ refused }) => refused === undefined);
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
  return { ...common, ...mergeVerdicts(candidates, outcome.verdicts, lane), eval_us: outcome.evalUs };
};

/** `decideWithin` where no settings of a machine apply: tools and their tests. */
export const decide = (
  host: Decider,
  base: PolicyInputBase,
  guard: GuardSettings,
  lane: Lane = 'open',
): Promise<Decision> => decideWithin(host, base, { guard, managed: ManagedSettings.absent }, lane);

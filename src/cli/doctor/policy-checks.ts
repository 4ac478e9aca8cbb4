import { type AgentInspection, policyTimeIn } from '../../agent/index.ts';
import { decideWithin, type Decision, type PolicyInputBase } from '../../policy/index.ts';
import { type Clock, packageVersion } from '../../runtime/index.ts';
import { type Check, checkOf, type Lines } from './line.ts';
import type { KnownTarget } from './target-checks.ts';

/** What policy is asked about, and with what. */
export interface PolicyAccess {
  readonly agent: AgentInspection;
  readonly clock: Clock;
  /** Who might open streams of a connection. */
  readonly principals: (connection: string) => readonly string[];
}

/** Of `2026-01-01`. */
const DAY_LENGTH = 10;

/** Loading, signature, vectors and canary of the bundle of the configuration. */
export const bundleCheck = ({ agent, clock }: PolicyAccess): Check => {
  const { config } = agent;
  const { bundle_file: file, bundle_url: url } = config.policy;
  return checkOf('bundle', file ?? url ?? 'none', async (lines) => {
    if (file === undefined) {
      lines.skip(
        'it comes from a server: the running agent has it, see `process` and `sallyport policy status -c agent.yaml`',
      );
      return;
    }
    const { active, rejected } = (await agent.policy()).status();
    if (active === undefined) {
      lines.fail(
        rejected === undefined ? 'there is none' : `${rejected.message} (${rejected.code})`,
        'build, sign and place one: `sallyport policy build DIR -o FILE`, `sallyport policy sign`; without one everything is denied',
      );
      return;
    }
    const signed =
      active.signedBy === undefined ? 'without a verified signature' : `signed by ${active.signedBy}`;
    const { catalog } = (await agent.policy()).active ?? { catalog: [] };
    const text = `loads, ${signed}: sequence ${String(active.sequence)}, revision ${JSON.stringify(active.revision)}, sha256 ${active.sha256.slice(0, 12)}`;
    if (active.signedBy === undefined && !config.policy.require_signed)
      lines.warn(
        text,
        'sign bundles and set policy.require_signed: who can write the file decides what is allowed',
      );
    else lines.pass(text);
    const today = new Date(clock.nowMs()).toISOString().slice(0, DAY_LENGTH);
    const ended = catalog.filter(
      ({ expires }) => expires !== undefined && expires.slice(0, DAY_LENGTH) < today,
    );
    if (ended.length > 0)
      lines.warn(
        `rules that have ended: ${ended.map(({ id }) => id).join(', ')}`,
        'extend them in the policy, or take them out',
      );
  });
};

const CLAIMS = { listen: ['Listen'], send: ['Send'] } as const;
/** What only the relay knows of a connection. */
const UNKNOWN_ID = 'c_00000000000000000000';

/** What a stream, or publishing, would be asked about, as far as this host knows. */
const inputOf = (
  { agent: { config, credentials }, clock }: PolicyAccess,
  { connection, target }: KnownTarget,
  addresses: readonly string[],
  principal: string | undefined,
): PolicyInputBase => {
  const own = credentials.find((one) => one.connection === connection);
  const party = (id: string, name: string, claims: readonly string[]): PolicyInputBase['listener'] => ({
    kind: 'sas',
    id,
    principal: name,
    auth_rule: name.replace('namespace/', ''),
    slot: 'primary',
    claims,
    proved_by: 'relay',
  });
  const node = config.relays[0]?.host ?? '';
  const base: PolicyInputBase = {
    v: 1,
    action: 'publish',
    namespace: config.namespace,
    connection: { name: connection, id: UNKNOWN_ID, labels: {} },
    target: { ...target, addresses },
    listener: party(own?.keyId ?? 'k_0', own?.keyName ?? 'unknown', CLAIMS.listen),
    agent: { name: config.name, instance: 'doctor', labels: config.labels, version: packageVersion },
    relay: { node },
    usage: { connection: { streams: 0 }, agent: { streams: 0 } },
    managed: { require_proof: false },
    time: policyTimeIn(config.time_zone)(clock.nowMs()),
  };
  if (principal === undefined) return base;
  return {
    ...base,
    action: 'stream',
    key: party('k_0', principal, CLAIMS.send),
    source: { gateway: 'doctor', gateway_proved: false },
    link: { id: 'doctor', carrier: 'tcp' },
    stream: { id: 'doctor', kind: 'tcp', attempt: 1 },
    usage: { ...base.usage, principal: { streams: 0 } },
  };
};

const verdictLine = (lines: Lines, what: string, { allow, rule, reason, reasons }: Decision): void => {
  const codes = [...new Set(reasons.map(({ code }) => code))].join(', ');
  if (allow) lines.pass(`${what}: allowed by rule ${String(rule)}`);
  else
    lines.fail(
      `${what}: denied, ${String(reason)}${codes === '' ? '' : ` (${codes})`}`,
      reason === 'guard_denied' || reason === 'loop'
        ? 'the guard refuses it, and no allow-list can allow it: the line `target` says what can be done (docs/policy.md, The guard)'
        : 'if it should be allowed, change the allow-list; `sallyport policy explain --input FILE` shows each condition',
    );
};

/** Whether the policy of this agent lets a connection be published, and streams of each known principal be opened. */
export const verdictCheck = (access: PolicyAccess, known: KnownTarget): Check =>
  checkOf('policy', known.connection, async (lines) => {
    const { agent } = access;
    const host = await agent.policy();
    if (host.active === undefined) {
      lines.skip('no bundle to ask');
      return;
    }
    const resolution = await agent.resolver.resolve(known.target.host);
    if (!resolution.ok) {
      lines.skip('the target does not resolve');
      return;
    }
    const bounds = { guard: agent.guard, managed: agent.managed };
    const ask = (principal: string | undefined): Promise<Decision> =>
      decideWithin(host, inputOf(access, known, resolution.addresses, principal), bounds);
    verdictLine(lines, 'publish', await ask(undefined));
    const principals = access.principals(known.connection);
    for (const principal of principals) {
      verdictLine(lines, `a stream by ${principal}, from no known address, now`, await ask(principal));
    }
    if (principals.length === 0)
      lines.skip('streams: no principal is known here; name them with --principal');
  });

import { z } from 'zod';
import { type AgentConfig, inspectAgent } from '../../agent/index.ts';
import { type Clock, type HostPort, parseHostPort, silentLogger } from '../../runtime/index.ts';
import { auditDatabaseCheck } from './database-checks.ts';
import { type Check, checkOf } from './line.ts';
import { directoryCheck, kernelCheck, processCheck, spoolCheck } from './machine-checks.ts';
import { bundleCheck, type PolicyAccess, verdictCheck } from './policy-checks.ts';
import { configuredProxy } from '../../protocol/index.ts';
import { proxyCheck, relayChecks } from './relay-checks.ts';
import { type KnownTarget, targetCheck } from './target-checks.ts';

/** Everything that is to be checked, and what to let go of afterwards. */
export interface Plan {
  readonly checks: readonly Check[];
  close(): Promise<void>;
}

/** What is said on the command line beside the configuration. */
export interface DoctorHints {
  /** Targets by connection, as nobody else tells them. */
  readonly targets: ReadonlyMap<string, HostPort>;
  readonly principals: readonly string[];
  /** The newest migration of this version. */
  readonly newestAudit: string | undefined;
}

const ANSWER_MS = 2_000;

/** What a running agent tells of its connections. */
const statusSchema = z.object({
  connections: z.array(
    z.object({
      connection: z.string(),
      node: z.string(),
      state: z.string(),
      target: z.string().nullable(),
      rule: z.string().nullable(),
      detail: z.string().nullable(),
    }),
  ),
  links: z.array(z.object({ connection: z.string(), principal: z.string() })),
});
type RunningAgent = z.infer<typeof statusSchema>;

/** The running agent of a configuration, if it answers. */
const runningAgent = async (statusUrl: string): Promise<RunningAgent | undefined> => {
  try {
    const response = await fetch(`${statusUrl}/status`, { signal: AbortSignal.timeout(ANSWER_MS) });
    return statusSchema.parse(await response.json());
  } catch {
    return undefined;
  }
};

/** Targets by connection, the word of the command line first, then the pin, then what the relay told the agent. */
const targetsOf = (
  connections: readonly string[],
  pins: ReadonlyMap<string, HostPort>,
  running: RunningAgent | undefined,
  hints: DoctorHints,
): KnownTarget[] =>
  connections.flatMap((connection) => {
    const given = hints.targets.get(connection);
    if (given !== undefined) return [{ connection, target: given, from: 'given' }];
    const pinned = pins.get(connection);
    if (pinned !== undefined) return [{ connection, target: pinned, from: 'pinned in agent.yaml' }];
    const told = running?.connections.find((one) => one.connection === connection)?.target;
    return told === undefined || told === null
      ? []
      : [{ connection, target: parseHostPort(told), from: 'as the relay says' }];
  });

const publicationCheck = ({ connections }: RunningAgent): Check[] =>
  connections.map(({ connection, node, state, rule, detail }) =>
    checkOf('published', `${connection} at ${node}`, (lines) => {
      if (state === 'published') lines.pass(`by rule ${rule ?? 'unknown'}`);
      else lines.fail(`${state}: ${detail ?? 'no reason told'}`, `sallyport why ${connection}`);
    }),
  );

/** What is checked for agent.yaml. @throws AppError ERR_AGENT_CONFIG */
export const agentPlan = async (config: AgentConfig, clock: Clock, hints: DoctorHints): Promise<Plan> => {
  const agent = await inspectAgent(config, { clock, logger: silentLogger });
  const statusUrl = `http://${config.status.listen}`;
  const running = await runningAgent(statusUrl);
  const connections = [...new Set(agent.credentials.flatMap(({ connection }) => connection ?? []))];
  const known = targetsOf(connections, agent.pins, running, hints);
  const access: PolicyAccess = {
    agent,
    clock,
    principals: (connection) => [
      ...new Set([
        ...hints.principals,
        ...(running?.links ?? [])
          .filter((link) => link.connection === connection)
          .map((link) => link.principal),
      ]),
    ],
  };
  const { relays, audit, state_dir: stateDir } = agent.config;
  const relayAccess = {
    relays,
    ca: agent.ca,
    caFile: config.ca_file,
    revocation: config.tls.revocation,
    clock,
    proxies: configuredProxy(config.proxy),
  };
  const untold = connections.filter((name) => !known.some(({ connection }) => connection === name));
  return {
    checks: [
      processCheck('agent', statusUrl),
      proxyCheck(relayAccess),
      ...relayChecks(relayAccess),
      directoryCheck('state', stateDir),
      directoryCheck('state', audit.spool_dir),
      spoolCheck(audit.spool_dir),
      ...(audit.database_url === undefined
        ? []
        : [auditDatabaseCheck(audit.database_url, hints.newestAudit)]),
      bundleCheck(access),
      ...known.flatMap((one) => [targetCheck(one, agent, clock), verdictCheck(access, one)]),
      ...untold.map((name) =>
        checkOf('target', name, (lines) => {
          lines.skip(
            'the relay tells it to a running agent only: start the agent, or give --target NAME=HOST:PORT',
          );
        }),
      ),
      ...(running === undefined ? [] : publicationCheck(running)),
      kernelCheck(),
    ],
    close: () => agent.close(),
  };
};

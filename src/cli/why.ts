import type { Command } from 'commander';
import { z } from 'zod';
import type { RevocationView } from '../control/index.ts';
import { isConnectionName } from '../identity/index.ts';
import { AppError, EXIT, type HostPort, parseHostPort, sleep, systemClock } from '../runtime/index.ts';
import {
  type AdminClient,
  type AdminOptions,
  adminOptions,
  LIVE_PAGE,
  openAdminClient,
} from './manage/admin-client.ts';
import { type Output, outputOf } from './output.ts';
import { findRunningUp } from './ready-file.ts';
import { probe, type ProbeResult } from './up/probe.ts';
import { adviceFor, denyRuleOf } from './why-advice.ts';
import { isByRevocation, lostKeys, REVOCATIONS_ASKED, revocationsBehind } from './why-revocation.ts';

const failureSchema = z.object({
  at: z.string(),
  connection: z.string(),
  stage: z.string(),
  code: z.string(),
  detail: z.string(),
  stream_id: z.string().nullable(),
  decision_id: z.string().nullable(),
  principal: z.string().nullable(),
  gateway: z.string().nullable(),
  agent: z.string().nullable(),
  reasons: z.array(z.string()),
});
const failuresSchema = z.object({ items: z.array(failureSchema) });
const loginsSchema = z.object({
  items: z.array(
    z.object({
      role: z.string(),
      name: z.string(),
      state: z.string(),
      credentials: z.array(z.object({ connection: z.string().nullable() })),
      published: z.array(z.string()),
    }),
  ),
});

type Failure = z.infer<typeof failureSchema>;
type Login = z.infer<typeof loginsSchema>['items'][number];

/** How a try ended; `waiting`: the gateway took the application's connection, and has nothing to join it to. */
interface Tried extends Omit<ProbeResult, 'outcome'> {
  readonly outcome: ProbeResult['outcome'] | 'waiting';
}

interface WhyOptions extends AdminOptions {
  readonly try?: boolean;
  /** Where applications connect, when no `up` runs here. */
  readonly listener?: string;
}

/** Failures that are over once an agent publishes the connection. */
const UNPUBLISHED: readonly string[] = ['no_agent', 'unpublished'];
/** How long a stream may stay open before a try counts as a success. */
const TRY_PATIENCE_MS = 3_000;
/** Reports travel from the ends to the relay within this. */
const REPORT_DEADLINE_MS = 5_000;
const POLL_MS = 100;

const failuresOf = async (client: AdminClient, name: string): Promise<readonly Failure[]> =>
  failuresSchema.parse(await client.get(`/connections/${encodeURIComponent(name)}/failures`)).items;

/** Where an application would connect: the listener that is given, else that of the running `up`. */
const listenerOf = (name: string, { listener, state }: WhyOptions): HostPort => {
  if (listener !== undefined) return parseHostPort(listener);
  const up = findRunningUp(state);
  if (up === undefined) {
    throw new AppError(
      'ERR_CLI_USAGE',
      `where do applications connect? give --listener HOST:PORT, what gateway.yaml has as listen of ${name}; no \`up\` runs here`,
    );
  }
  const connection = up.connections.find((one) => one.name === name);
  if (connection === undefined) {
    const known = up.connections.map((one) => one.name).join(', ');
    throw new AppError('ERR_CLI_USAGE', `the running \`up\` publishes no ${name}; it publishes ${known}`);
  }
  return parseHostPort(connection.listen);
};

/** Waits for the report of a stream that failed after some instant. */
const awaitFailure = async (
  client: AdminClient,
  name: string,
  before: ReadonlySet<string>,
): Promise<Failure | undefined> => {
  const untilMs = systemClock.monotonicMs() + REPORT_DEADLINE_MS;
  let found: Failure | undefined;
  while (systemClock.monotonicMs() < untilMs) {
    found = (await failuresOf(client, name)).find(
      ({ stage, stream_id }) => stage !== 'login' && !before.has(stream_id ?? ''),
    );
    // The gateway's report may overtake the agent's, which alone has the reasons of a decision.
    if (found !== undefined && (found.decision_id === null || found.agent !== null)) return found;
    await sleep(systemClock, POLL_MS);
  }
  return found;
};

const remedyOf = ({ code, reasons, stream_id, detail }: Failure): string | null =>
  adviceFor(code, reasons, stream_id, detail);

const showFailure = (output: Output, failure: Failure, revoked: readonly string[]): void => {
  const fact = (label: string, value: string | null): void => {
    if (value !== null && value !== '') output.line(`  ${label.padEnd(10)} ${value}`);
  };
  output.line(
    failure.stage === 'login'
      ? `${failure.connection}: a login was refused with ${failure.code}`
      : `${failure.connection}: the last ${failure.stage} failed with ${failure.code}`,
  );
  fact('why', failure.detail);
  fact('reasons', failure.reasons.join(', '));
  fact('rule', denyRuleOf(failure.reasons) ?? null);
  for (const one of revoked) fact('revoked', one);
  fact('when', failure.at);
  fact('principal', failure.principal);
  fact('gateway', failure.gateway);
  fact('agent', failure.agent);
  fact('stream', failure.stream_id);
  fact('decision', failure.decision_id);
  fact('remedy', remedyOf(failure));
};

/** Whether a gateway is logged in whose key is good for the connection. */
const hasGatewayKey = (name: string, logins: readonly Login[]): boolean =>
  logins.some(
    ({ role, credentials }) =>
      role === 'gateway' && credentials.some(({ connection }) => connection === name || connection === null),
  );

/**
 * What a stream needs and is not there: an agent that publishes, and a gateway whose key is good. Without them an open socket
 * proves nothing, and nobody reports a refusal.
 */
const judgeTry = (tried: ProbeResult, name: string, logins: readonly Login[]): Tried => {
  const { outcome } = tried;
  if (outcome !== 'open' && outcome !== 'reset') return tried;
  const hasKey = hasGatewayKey(name, logins);
  const missing = !logins.some(({ published }) => published.includes(name))
    ? 'no connected agent publishes it'
    : hasKey
      ? undefined
      : 'no connected gateway has a valid key for it';
  if (missing === undefined) return tried;
  return { ...tried, outcome: outcome === 'open' ? 'waiting' : outcome, detail: missing };
};

const showTry = (output: Output, { outcome, ms, detail }: Tried): void => {
  const after = `after ${ms.toFixed(1)} ms`;
  if (outcome === 'open') output.line(`tried now: the stream is open ${after}`);
  else if (outcome === 'waiting')
    output.line(`tried now: no stream ${after}, the application is kept waiting: ${detail}`);
  else {
    const because = detail === outcome ? '' : `: ${detail}`;
    output.line(`tried now: ${outcome} ${after}, as the application sees it${because}`);
  }
};

export const whyCommand = (program: Command): void => {
  adminOptions(
    program
      .command('why')
      .argument('<name>', 'a connection')
      .summary('why the last stream of a connection failed')
      .description(
        'Tells what became of the last stream, link or login of a connection that failed, from what both ends and the ' +
          'relay reported: reason, policy reasons, decision and remedy. ' +
          'Connects to: the management API (--admin); with --try also to the listener. ' +
          'Exits 0 when nothing speaks against a stream: the one that was tried opened, or an agent publishes it and no failure but its absence is reported; else 1.',
      )
      .option('--try', 'open a stream first, as an application would')
      .option(
        '--listener <host:port>',
        "for --try: the gateway's listener; default: that of the running `up`",
      ),
  ).action(async (name: string, options: WhyOptions, command: Command) => {
    const output = outputOf(command);
    if (!isConnectionName(name)) {
      throw new AppError(
        'ERR_CLI_USAGE',
        `${JSON.stringify(name.slice(0, 80))} is not the name of a connection`,
      );
    }
    const listener = options.try === true ? listenerOf(name, options) : undefined;
    const client = openAdminClient(options);
    const before = new Set(
      listener !== undefined ? (await failuresOf(client, name)).map(({ stream_id }) => stream_id ?? '') : [],
    );
    const probed = listener === undefined ? undefined : await probe(listener, TRY_PATIENCE_MS, systemClock);
    const logins = loginsSchema
      .parse({ items: await client.list('/logins', { limit: LIVE_PAGE }) })
      .items.filter(({ state }) => state === 'up');
    const tried = probed === undefined ? undefined : judgeTry(probed, name, logins);
    if (tried !== undefined) showTry(output, tried);
    const all = await failuresOf(client, name);
    const failure =
      tried === undefined
        ? all.find(({ stage }) => stage !== 'login')
        : tried.outcome === 'open'
          ? undefined
          : await awaitFailure(client, name, before);
    // A login that was refused before the last failure, or while a good key is there, is told and speaks against nothing.
    const refusals = all.filter(({ stage }) => stage === 'login');
    const isKeyless = tried?.outcome !== 'open' && !hasGatewayKey(name, logins);
    const revocations =
      [...refusals, ...(failure === undefined ? [] : [failure])].some(isByRevocation) || isKeyless
        ? (await client.get<{ items: RevocationView[] }>('/revocations', { limit: REVOCATIONS_ASKED })).items
        : [];
    const lost = isKeyless ? lostKeys(name, revocations) : [];
    const publishers = logins.filter(({ published }) => published.includes(name)).map((login) => login.name);
    const up = options.admin === undefined ? findRunningUp(options.state) : undefined;
    output.document({
      connection: name,
      ...(tried === undefined ? {} : { tried }),
      failure: failure ?? null,
      ...(failure === undefined
        ? {}
        : { remedy: remedyOf(failure), revoked: revocationsBehind(failure, revocations) }),
      refused_logins: refusals,
      published_by: publishers,
      revoked_keys: lost,
    });
    const show = (one: Failure): void => {
      showFailure(output, one, revocationsBehind(one, revocations));
    };
    const isNewer = ({ at }: Failure): boolean =>
      failure === undefined || Date.parse(at) > Date.parse(failure.at);
    refusals.filter(isNewer).forEach(show);
    if (failure !== undefined) show(failure);
    else if (tried?.outcome !== 'open')
      output.line(`${name}: no failure of a stream or link has been reported since this node started`);
    refusals.filter((one) => !isNewer(one)).forEach(show);
    if (isKeyless) {
      output.line(`${name}: no connected gateway has a valid key for it`);
      for (const one of lost) output.line(`  revoked    ${one}`);
    }
    if (publishers.length === 0) {
      output.line(`${name}: no connected agent publishes it; every stream fails with no_agent`);
      output.line(
        up === undefined
          ? '  look at the agent: `sallyport status -c agent.yaml` on its host, or /readyz of its status listener'
          : `  look at the agent: ${up.agent.status_url}/readyz`,
      );
    }
    // Every start of an agent leaves one of these behind.
    const isOver = publishers.length > 0 && failure !== undefined && UNPUBLISHED.includes(failure.code);
    if (isOver) output.line(`  since then ${publishers.join(', ')} publishes it`);
    const isWell =
      tried === undefined
        ? (isOver || (failure === undefined && publishers.length > 0)) &&
          (refusals.length === 0 || !isKeyless)
        : tried.outcome === 'open';
    if (!isWell) output.exitWith(EXIT.notSo);
  });
};

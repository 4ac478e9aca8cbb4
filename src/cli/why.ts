import type { Command } from 'commander';
import { z } from 'zod';
import { isConnectionName } from '../identity/index.ts';
import { AppError, EXIT, parseHostPort, sleep, systemClock } from '../runtime/index.ts';
import {
  type AdminClient,
  type AdminOptions,
  adminOptions,
  LIVE_PAGE,
  openAdminClient,
} from './manage/admin-client.ts';
import { type Output, outputOf } from './output.ts';
import { findRunningUp, requireRunningUp } from './ready-file.ts';
import { probe, type ProbeResult } from './up/probe.ts';
import { adviceFor } from './why-advice.ts';

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
    z.object({ role: z.string(), name: z.string(), state: z.string(), published: z.array(z.string()) }),
  ),
});

type Failure = z.infer<typeof failureSchema>;

interface WhyOptions extends AdminOptions {
  readonly try?: boolean;
}

/** How long a stream may stay open before a try counts as a success. */
const TRY_PATIENCE_MS = 3_000;
/** Reports travel from the ends to the relay within this. */
const REPORT_DEADLINE_MS = 5_000;
const POLL_MS = 100;

const failuresOf = async (client: AdminClient, name: string): Promise<readonly Failure[]> =>
  failuresSchema.parse(await client.get(`/connections/${encodeURIComponent(name)}/failures`)).items;

/** Opens a stream as an application would, at the listener of the running `up`. */
const tryConnection = async (name: string, options: WhyOptions): Promise<ProbeResult> => {
  const up = requireRunningUp(options.state);
  const connection = up.connections.find((one) => one.name === name);
  if (connection === undefined) {
    const known = up.connections.map((one) => one.name).join(', ');
    throw new AppError('ERR_CLI_USAGE', `the running \`up\` publishes no ${name}; it publishes ${known}`);
  }
  return probe(parseHostPort(connection.listen), TRY_PATIENCE_MS, systemClock);
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
    found = (await failuresOf(client, name)).find(({ stream_id }) => !before.has(stream_id ?? ''));
    // The gateway's report may overtake the agent's, which alone has the reasons of a decision.
    if (found !== undefined && (found.decision_id === null || found.agent !== null)) return found;
    await sleep(systemClock, POLL_MS);
  }
  return found;
};

const showFailure = (output: Output, failure: Failure): void => {
  const fact = (label: string, value: string | null): void => {
    if (value !== null && value !== '') output.line(`  ${label.padEnd(10)} ${value}`);
  };
  output.line(`${failure.connection}: the last ${failure.stage} failed with ${failure.code}`);
  fact('why', failure.detail);
  fact('reasons', failure.reasons.join(', '));
  fact('when', failure.at);
  fact('principal', failure.principal);
  fact('gateway', failure.gateway);
  fact('agent', failure.agent);
  fact('stream', failure.stream_id);
  fact('decision', failure.decision_id);
  fact('remedy', adviceFor(failure.code, failure.reasons));
};

const showTry = (output: Output, tried: ProbeResult): void => {
  const ms = tried.ms.toFixed(1);
  output.line(
    tried.outcome === 'open'
      ? `tried now: the stream is open after ${ms} ms`
      : `tried now: ${tried.outcome} after ${ms} ms, as the application sees it`,
  );
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
          'Connects to: the management API (--admin); with --try also to the listener of the running `up`.',
      )
      .option('--try', 'open a stream first, as an application would, at the listener of the running `up`'),
  ).action(async (name: string, options: WhyOptions, command: Command) => {
    const output = outputOf(command);
    if (!isConnectionName(name)) {
      throw new AppError(
        'ERR_CLI_USAGE',
        `${JSON.stringify(name.slice(0, 80))} is not the name of a connection`,
      );
    }
    const client = openAdminClient(options);
    const before = new Set(
      options.try === true ? (await failuresOf(client, name)).map(({ stream_id }) => stream_id ?? '') : [],
    );
    const tried = options.try === true ? await tryConnection(name, options) : undefined;
    if (tried !== undefined) showTry(output, tried);
    const failure =
      tried === undefined
        ? (await failuresOf(client, name))[0]
        : tried.outcome === 'open'
          ? undefined
          : await awaitFailure(client, name, before);
    const logins = loginsSchema
      .parse({ items: await client.list('/logins', { limit: LIVE_PAGE }) })
      .items.filter(({ state }) => state === 'up');
    const publishers = logins.filter(({ published }) => published.includes(name)).map((login) => login.name);
    const up = options.admin === undefined ? findRunningUp(options.state) : undefined;
    output.document({
      connection: name,
      ...(tried === undefined ? {} : { tried }),
      failure: failure ?? null,
      ...(failure === undefined ? {} : { remedy: adviceFor(failure.code, failure.reasons) }),
      published_by: publishers,
    });
    if (failure !== undefined) showFailure(output, failure);
    else if (tried?.outcome !== 'open')
      output.line(`${name}: no failure has been reported since this node started`);
    if (publishers.length === 0) {
      output.line(`${name}: no connected agent publishes it; every stream fails with no_agent`);
      output.line(`  look at the agent: ${up?.agent.status_url ?? 'http://ITS-STATUS-LISTENER'}/readyz`);
    }
    if (tried !== undefined && tried.outcome !== 'open') output.exitWith(EXIT.notSo);
  });
};

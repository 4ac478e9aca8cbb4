import type { Command } from 'commander';
import { z } from 'zod';
import { AppError, EXIT, isAppError, messageOf, readConfig, readConfigText } from '../runtime/index.ts';
import { kindOf } from './check.ts';
import { type GatewayEntrances, gatewayEntrances, showGatewayEntrances } from './gateway-status.ts';
import { type AdminOptions, adminOptions, LIVE_PAGE, openAdminClient } from './manage/admin-client.ts';
import type { CliErrorCode } from './errors.ts';
import { counted, type Output, outputOf } from './output.ts';
import { findRunningUp } from './ready-file.ts';
import { managedLines, type Managed } from './managed-text.ts';
import { agentOf } from './policy/agent-access.ts';
import { processLines, type ProcessStatus, processStatusOf } from './status-of-process.ts';
import { readinessOf } from './up/readiness.ts';

const statusSchema = z.object({
  namespace: z.string(),
  node: z.string(),
  version: z.string(),
  admitting: z.boolean(),
  not_admitting_because: z.string().nullable(),
  agents: z.number(),
  gateways: z.number(),
  links: z.number(),
  published: z.array(z.string()),
});
const loginsSchema = z.object({
  items: z.array(
    z.object({
      role: z.string(),
      name: z.string(),
      state: z.string(),
      address: z.string().nullable(),
      opened_at: z.string(),
      build: z.string().nullable(),
      bundle_sha256: z.string().nullable(),
      credentials: z.array(z.object({ connection: z.string().nullable(), principal: z.string() })),
      published: z.array(z.string()),
    }),
  ),
});
const linksSchema = z.object({
  items: z.array(
    z.object({
      connection: z.string(),
      carrier: z.string(),
      state: z.string(),
      gateway: z.string(),
      agent: z.string(),
      sender_principal: z.string(),
      opened_at: z.string(),
      bytes_up: z.number(),
      bytes_down: z.number(),
    }),
  ),
});
const connectionsSchema = z.object({
  items: z.array(z.object({ name: z.string(), target: z.object({ host: z.string(), port: z.number() }) })),
});

const nodesSchema = z.object({
  items: z.array(
    z.object({
      name: z.string(),
      state: z.string(),
      last_seen_at: z.string(),
      agents: z.number(),
      gateways: z.number(),
    }),
  ),
});

interface Overview {
  readonly ok: boolean;
  readonly relay: z.infer<typeof statusSchema>;
  readonly connections: z.infer<typeof connectionsSchema>['items'];
  readonly logins: z.infer<typeof loginsSchema>['items'];
  readonly links: z.infer<typeof linksSchema>['items'];
  /** Every relay node of the deployment, as the control database has it. */
  readonly nodes: z.infer<typeof nodesSchema>['items'];
  /** Of a running `up`, or the agent of `-c`. */
  readonly processes: readonly {
    readonly name: string;
    readonly ready: boolean;
    readonly reasons: readonly string[];
    /** Logins, links with their carriers, bundle, audit; null when it does not answer. */
    readonly status: ProcessStatus | null;
  }[];
  /** Settings that bound the agent; null where none was asked, or it does not answer. */
  readonly managed: Managed | null;
  /** Of the gateway of a running `up`. */
  readonly entrances: GatewayEntrances['entrances'];
}

const DIGEST_DIGITS = 12;

type Local = Pick<Overview, 'processes' | 'managed'>;

const showProcesses = (output: Output, { processes, managed }: Local): void => {
  for (const { name, ready, reasons, status } of processes) {
    output.line(`${name}: ${ready ? 'ready' : `not ready: ${reasons.join('; ')}`}`);
    for (const line of status === null ? [] : processLines(status)) output.line(`  ${line}`);
  }
  if (managed === null) return;
  const [first, ...more] = managedLines(managed);
  output.line(`managed ${first ?? ''}`);
  for (const line of more) output.line(`  ${line}`);
};

const show = (output: Output, overview: Overview): void => {
  const { relay } = overview;
  output.line(`namespace ${relay.namespace}, node ${relay.node}, version ${relay.version}`);
  output.line(
    relay.admitting
      ? `admitting; ${counted(relay.agents, 'agent')}, ${counted(relay.gateways, 'gateway')}, ${counted(relay.links, 'data link')}`
      : `admits nobody: ${relay.not_admitting_because ?? 'unknown'}`,
  );
  showProcesses(output, overview);
  if (overview.nodes.length > 1) {
    output.line();
    output.table(overview.nodes, [
      { title: 'node', value: (row) => row.name },
      { title: 'state', value: (row) => row.state },
      { title: 'last seen', value: (row) => row.last_seen_at },
      { title: 'agents', value: (row) => row.agents, align: 'right' },
      { title: 'gateways', value: (row) => row.gateways, align: 'right' },
    ]);
  }
  output.line();
  output.table(overview.connections, [
    { title: 'connection', value: (row) => row.name },
    { title: 'target', value: (row) => `${row.target.host}:${row.target.port}` },
    { title: 'published', value: (row) => (relay.published.includes(row.name) ? 'yes' : 'no') },
    {
      title: 'links',
      align: 'right',
      value: (row) => overview.links.filter((link) => link.connection === row.name).length,
    },
  ]);
  if (overview.entrances.length > 0) {
    output.line();
    showGatewayEntrances(output, { entrances: overview.entrances, connections: [] });
  }
  output.line();
  output.table(overview.logins, [
    { title: 'login', value: (row) => `${row.role} ${row.name}` },
    { title: 'state', value: (row) => row.state },
    { title: 'from', value: (row) => row.address },
    { title: 'since', value: (row) => row.opened_at },
    { title: 'bundle', value: (row) => row.bundle_sha256?.slice(0, DIGEST_DIGITS) },
    { title: 'keys', value: (row) => row.credentials.length, align: 'right' },
  ]);
  output.line();
  output.table(overview.links, [
    { title: 'link', value: (row) => row.connection },
    { title: 'carrier', value: (row) => row.carrier },
    { title: 'state', value: (row) => row.state },
    { title: 'principal', value: (row) => row.sender_principal },
    { title: 'gateway → agent', value: (row) => `${row.gateway} → ${row.agent}` },
    { title: 'bytes up', value: (row) => row.bytes_up, align: 'right' },
    { title: 'bytes down', value: (row) => row.bytes_down, align: 'right' },
  ]);
};

interface StatusOptions extends AdminOptions {
  readonly config?: string;
}

/** Status addresses of the processes that can be asked, by name. */
const statusUrlsOf = async (options: StatusOptions): Promise<[string, string][]> => {
  if (options.config !== undefined) {
    const { statusUrl } = await agentOf(options.config);
    return [['agent', new URL('.', statusUrl).href.replace(/\/$/, '')]];
  }
  const up = options.admin === undefined ? findRunningUp(options.state) : undefined;
  return up === undefined
    ? []
    : [
        ['agent', up.agent.status_url],
        ['gateway', up.gateway.status_url],
      ];
};

/** A gateway's own view, from its status listener. @throws AppError ERR_CLI_GATEWAY_UNREACHABLE */
const showGateway = async (file: string, output: Output): Promise<void> => {
  const { gatewayConfigSchema } = await import('../gateway/index.ts');
  const { status } = await readConfig(file, gatewayConfigSchema);
  const told = await gatewayEntrances(`http://${status.listen}`);
  if (told === undefined) {
    throw new AppError<CliErrorCode>(
      'ERR_CLI_GATEWAY_UNREACHABLE',
      `no gateway answers at ${status.listen}: run the command on its machine, while it runs`,
    );
  }
  const ok = told.connections.every(({ problem }) => problem === null);
  output.document({ ok, ...told });
  showGatewayEntrances(output, told);
  if (!ok) output.exitWith(EXIT.notSo);
};

/** What the processes of this machine say of themselves. */
const localOf = async (urls: readonly [string, string][]): Promise<Local> => {
  const processes = await Promise.all(
    urls.map(async ([name, url]) => {
      const [readiness, status] = await Promise.all([readinessOf(url), processStatusOf(url)]);
      return { name, ...readiness, status };
    }),
  );
  return { processes, managed: processes.find(({ name }) => name === 'agent')?.status?.managed ?? null };
};

/** What a relay node says; the failure names its address. */
const askRelay = async (options: StatusOptions) => {
  const client = openAdminClient(options);
  const live = { limit: LIVE_PAGE };
  return Promise.all([
    client.get('/status').then((body) => statusSchema.parse(body)),
    client.list('/connections').then((items) => connectionsSchema.parse({ items })),
    client.list('/logins', live).then((items) => loginsSchema.parse({ items })),
    client.list('/links', live).then((items) => linksSchema.parse({ items })),
    client.list('/nodes').then((items) => nodesSchema.parse({ items })),
  ]);
};

export const statusCommand = (program: Command): void => {
  adminOptions(
    program
      .command('status')
      .summary('what is connected, over what, with which bundle')
      .description(
        'Shows a relay node: what it admits, connections and their links, logins with their bundles; with a running ' +
          '`up` also whether each of its processes is ready, its logins, the carriers and ports of its links, the bundle that ' +
          'decides, how far its audit is behind, the managed settings that bound its agent, and where applications connect to; ' +
          'with -c agent.yaml the same of one agent; with -c gateway.yaml the entrances of that gateway alone, with the loopback ' +
          'addresses of its names. Exit code 1 when something is not. ' +
          'Connects to: the management API (--admin), and the status listeners of a running `up`, or of the configuration.',
      )
      .option('-c, --config <file>', 'agent.yaml or gateway.yaml of a process on this machine'),
  ).action(async (options: StatusOptions, command: Command) => {
    const output = outputOf(command);
    if (options.config !== undefined && kindOf(await readConfigText(options.config)) === 'gateway') {
      await showGateway(options.config, output);
      return;
    }
    const urls = await statusUrlsOf(options);
    const gatewayUrl = urls.find(([name]) => name === 'gateway')?.[1];
    const local = await localOf(urls);
    const { processes, managed } = local;
    const [relay, connections, logins, links, nodes] = await askRelay(options).catch((error: unknown) => {
      if (processes.length > 0) {
        const code = isAppError(error) ? error.code : 'internal';
        output.document({ ok: false, relay: null, error: { code, message: messageOf(error) }, ...local });
        showProcesses(output, local);
      }
      throw error;
    });
    const ok = relay.admitting && processes.every(({ ready }) => ready);
    const overview: Overview = {
      ok,
      relay,
      connections: connections.items,
      logins: logins.items,
      links: links.items,
      nodes: nodes.items,
      processes,
      managed,
      entrances: gatewayUrl === undefined ? [] : ((await gatewayEntrances(gatewayUrl))?.entrances ?? []),
    };
    output.document(overview);
    show(output, overview);
    if (!ok) output.exitWith(EXIT.notSo);
  });
};

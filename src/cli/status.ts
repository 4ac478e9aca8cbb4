import type { Command } from 'commander';
import { z } from 'zod';
import { EXIT } from '../runtime/index.ts';
import { type AdminOptions, adminOptions, LIVE_PAGE, openAdminClient } from './manage/admin-client.ts';
import { type Output, outputOf } from './output.ts';
import { findRunningUp } from './ready-file.ts';
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

interface Overview {
  readonly ok: boolean;
  readonly relay: z.infer<typeof statusSchema>;
  readonly connections: z.infer<typeof connectionsSchema>['items'];
  readonly logins: z.infer<typeof loginsSchema>['items'];
  readonly links: z.infer<typeof linksSchema>['items'];
  /** Of a running `up` only. */
  readonly processes: readonly { name: string; ready: boolean; reasons: readonly string[] }[];
}

const DIGEST_DIGITS = 12;

const show = (output: Output, overview: Overview): void => {
  const { relay } = overview;
  output.line(`namespace ${relay.namespace}, node ${relay.node}, version ${relay.version}`);
  output.line(
    relay.admitting
      ? `admitting; ${relay.agents} agents, ${relay.gateways} gateways, ${relay.links} data links`
      : `admits nobody: ${relay.not_admitting_because ?? 'unknown'}`,
  );
  for (const { name, ready, reasons } of overview.processes) {
    output.line(`${name}: ${ready ? 'ready' : `not ready: ${reasons.join('; ')}`}`);
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

export const statusCommand = (program: Command): void => {
  adminOptions(
    program
      .command('status')
      .summary('what is connected, over what, with which bundle')
      .description(
        'Shows a relay node: what it admits, connections and their links, logins with their bundles; with a running ' +
          '`up` also whether each of its processes is ready. Exit code 1 when something is not. ' +
          'Connects to: the management API (--admin), and the status listeners of a running `up`.',
      ),
  ).action(async (options: AdminOptions, command: Command) => {
    const output = outputOf(command);
    const client = openAdminClient(options);
    const live = { limit: LIVE_PAGE };
    const [relay, connections, logins, links] = await Promise.all([
      client.get('/status').then((body) => statusSchema.parse(body)),
      client.list('/connections').then((items) => connectionsSchema.parse({ items })),
      client.list('/logins', live).then((items) => loginsSchema.parse({ items })),
      client.list('/links', live).then((items) => linksSchema.parse({ items })),
    ]);
    const up = options.admin === undefined ? findRunningUp(options.state) : undefined;
    const processes =
      up === undefined
        ? []
        : await Promise.all(
            (['agent', 'gateway'] as const).map(async (name) => ({
              name,
              ...(await readinessOf(up[name].status_url)),
            })),
          );
    const ok = relay.admitting && processes.every(({ ready }) => ready);
    const overview: Overview = {
      ok,
      relay,
      connections: connections.items,
      logins: logins.items,
      links: links.items,
      processes,
    };
    output.document(overview);
    show(output, overview);
    if (!ok) output.exitWith(EXIT.notSo);
  });
};

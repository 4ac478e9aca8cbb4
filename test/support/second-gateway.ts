import { readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { parse, stringify } from 'yaml';
import { startBackground } from './background.ts';
import { type CommandResult, sallyportProgram } from './command.ts';
import type { Settings } from './deployment.ts';
import { eventually } from './eventually.ts';
import { freePort } from './free-port.ts';
import type { Closer } from './temporary.ts';

interface ListedKey {
  readonly key_id: string;
  readonly auth_rule: string;
  readonly slot: string;
}

const sameRule = (authRule: string): boolean =>
  authRule === 'defaultSender' || authRule.endsWith('/defaultSender');

/** The installation that a second gateway is added to. */
export interface Installation {
  readonly gatewayFile: string;
  /** Runs a management command. */
  command(...args: string[]): Promise<CommandResult>;
}

export interface FurtherGateway {
  readonly name: string;
  readonly connection: string;
  readonly connectionString: string;
  /** Only the relay node at this host; default: all of the installation. */
  readonly node?: string;
}

/** A further gateway with a key of its own, ready when this resolves. */
export const startGateway = async (
  t: Closer,
  installation: Pick<Installation, 'gatewayFile'>,
  { name, connection, connectionString, node }: FurtherGateway,
): Promise<{ listen: string; pid: number; end: () => Promise<unknown> }> => {
  const listen = `127.0.0.1:${await freePort()}`;
  const status = `127.0.0.1:${await freePort()}`;
  const directory = dirname(installation.gatewayFile);
  const settings = parse(readFileSync(installation.gatewayFile, 'utf8')) as Settings;
  settings.name = name;
  settings.state_dir = join(directory, name);
  settings.status = { listen: status };
  settings.connections = [{ name: connection, connection_string: connectionString, listen }];
  if (node !== undefined) {
    settings.relays = (settings.relays as { host: string }[]).filter(({ host }) => host === node);
  }
  const file = join(directory, `${name}.yaml`);
  writeFileSync(file, stringify(settings), { mode: 0o600 });
  const gateway = startBackground(t, process.execPath, [sallyportProgram, 'gateway', '-c', file], {
    cwd: directory,
  });
  await eventually(`${name} is ready`, async () => {
    if (gateway.child.exitCode !== null) throw new Error(gateway.output());
    const response = await fetch(`http://${status}/readyz`);
    if (response.status !== 200) throw new Error(await response.text());
    return true;
  });
  return { listen, pid: gateway.pid, end: () => gateway.end() };
};

/** A second gateway that uses the secondary Send key of a connection. */
export const startSecondGateway = async (
  t: Closer,
  installation: Installation,
  connection: string,
): Promise<{ listen: string; keyId: string; otherKeyId: string; pid: number }> => {
  const listed = await installation.command('--json', 'key', 'list', '--connection', connection);
  if (listed.code !== 0) throw new Error(`key list: ${listed.stderr}`);
  const keys = (JSON.parse(listed.stdout) as ListedKey[]).filter((key) => sameRule(key.auth_rule));
  const primary = keys.find((key) => key.slot === 'primary');
  const secondary = keys.find((key) => key.slot === 'secondary');
  if (primary === undefined || secondary === undefined) throw new Error(`key list: ${listed.stdout}`);
  const disclosed = await installation.command('--json', 'key', 'disclose', secondary.key_id);
  if (disclosed.code !== 0) throw new Error(`key disclose: ${disclosed.stderr}`);
  const { connection_string: connectionString } = JSON.parse(disclosed.stdout) as {
    connection_string: string;
  };

  const gateway = await startGateway(t, installation, { name: 'gateway-2', connection, connectionString });
  return { ...gateway, keyId: secondary.key_id, otherKeyId: primary.key_id };
};

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

  const listen = `127.0.0.1:${await freePort()}`;
  const status = `127.0.0.1:${await freePort()}`;
  const directory = dirname(installation.gatewayFile);
  const settings = parse(readFileSync(installation.gatewayFile, 'utf8')) as Settings;
  settings.name = 'gateway-2';
  settings.state_dir = join(directory, 'gateway-2');
  settings.status = { listen: status };
  settings.connections = [{ name: connection, connection_string: connectionString, listen }];
  const file = join(directory, 'gateway-2.yaml');
  writeFileSync(file, stringify(settings), { mode: 0o600 });
  const gateway = startBackground(t, process.execPath, [sallyportProgram, 'gateway', '-c', file], {
    cwd: directory,
  });
  await eventually('the second gateway is ready', async () => {
    if (gateway.child.exitCode !== null) throw new Error(gateway.output());
    const response = await fetch(`http://${status}/readyz`);
    if (response.status !== 200) throw new Error(await response.text());
    return true;
  });
  return { listen, keyId: secondary.key_id, otherKeyId: primary.key_id, pid: gateway.pid };
};

import { isAbsolute, relative, sep } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Output } from '../output.ts';
import type { ReadyFile } from '../ready-file.ts';
import { packageRoot } from '../version.ts';
import { AUDIT_CONNECTION, FORBIDDEN_CONNECTION } from './options.ts';
import { DEFAULT_STATE_DIRECTORY, statePaths } from './state.ts';

/** Where the Debian package keeps what /usr/bin/sallyport leads to. */
const DEBIAN_FOLDER = '/usr/lib/sallyport/';

/** How to type `sallyport` in the directory where `up` was started. */
export const programName = (): string => {
  const whole = fileURLToPath(new URL('bin/sallyport', packageRoot));
  if (whole.startsWith(DEBIAN_FOLDER)) return 'sallyport';
  const near = relative(process.cwd(), whole);
  // A path that climbs far is harder to read than the whole one, and no shorter.
  const bin = near.startsWith(`..${sep}..${sep}`) ? whole : near;
  if (bin.includes('node_modules')) return 'npx sallyport';
  const typed =
    bin.includes(' ') || (isAbsolute(bin) && process.platform === 'win32') ? JSON.stringify(bin) : bin;
  return process.platform === 'win32' ? `node ${typed}` : typed;
};

const stateOption = (ready: ReadyFile): string =>
  ready.state_dir === statePaths(DEFAULT_STATE_DIRECTORY).root
    ? ''
    : ` --state ${JSON.stringify(ready.state_dir)}`;

/** Three commands that can be pasted into another terminal and need Node only. */
export const nextCommands = (ready: ReadyFile): { title: string; command: string }[] => {
  const program = programName();
  const state = stateOption(ready);
  const names = ready.connections.map(({ name }) => name);
  const first = names[0] ?? AUDIT_CONNECTION;
  const commands = [];
  if (names.includes(AUDIT_CONNECTION)) {
    commands.push({
      title: 'Ask the audit trail, through the tunnel that it audits: your own stream is in it',
      command: `${program} audit query --tunnel${state} "select occurred_at, kind, action, connection, policy_rule from audit.decisions order by occurred_at desc limit 5"`,
    });
  } else {
    commands.push({
      title: `Use ${first} through the tunnel, then see its streams`,
      command: `${program} audit query${state} "select opened_at, connection, close_reason, bytes_up, bytes_down from audit.streams order by opened_at desc limit 5"`,
    });
  }
  commands.push(
    names.includes(FORBIDDEN_CONNECTION)
      ? {
          title: 'Try the connection that policy denies, and see why',
          command: `${program} why ${FORBIDDEN_CONNECTION} --try${state}`,
        }
      : {
          title: `Try ${first}, and see what became of it`,
          command: `${program} why ${first} --try${state}`,
        },
  );
  commands.push({
    title: 'Revoke a key under a running stream (the next start of `up` makes a new one)',
    command: names.includes(AUDIT_CONNECTION)
      ? `${program} audit query --tunnel${state} "select pg_sleep(20)" & sleep 3; ${program} key revoke${state} --auth-rule ${AUDIT_CONNECTION}/defaultSender --slot primary --reason "trying it"; wait`
      : `${program} key revoke${state} --auth-rule ${first}/defaultSender --slot primary --reason "trying it"`,
  });
  return commands;
};

/** What is said once everything answers. */
export const showScreen = (output: Output, ready: ReadyFile, tookMs: number): void => {
  const note = (name: string): string =>
    name === FORBIDDEN_CONNECTION
      ? 'policy denies every stream'
      : name === AUDIT_CONNECTION
        ? 'the audit trail'
        : '';
  output.line(
    `Sallyport is up after ${(tookMs / 1000).toFixed(1)} s: relay, agent, gateway${ready.pids.postgres === null ? '' : ' and PostgreSQL'}, each a process of its own.`,
  );
  output.line();
  output.table(ready.connections, [
    { title: 'connection', value: (row) => row.name },
    { title: 'applications connect to', value: (row) => row.listen },
    { title: 'target', value: (row) => row.target },
    { title: '', value: (row) => note(row.name) },
  ]);
  output.line();
  output.line('Type in another terminal, in this directory:');
  nextCommands(ready).forEach(({ title, command }, index) => {
    output.line();
    output.line(`  ${index + 1}. ${title}`);
    output.line(`     ${command}`);
  });
  output.line();
  output.line(`State, keys and logs are in ${ready.state_dir}. When the control database is away, links are`);
  output.line(
    'never cut here (cut_after_seconds: never); a deployment made by `sallyport init` cuts after 300 s.',
  );
  output.line('Ctrl-C stops everything in order.');
};

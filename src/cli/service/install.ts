import { existsSync, readFileSync, realpathSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Command } from 'commander';
import type { ZodType } from 'zod';
import { AppError, messageOf, writeFileAtomically } from '../../runtime/index.ts';
import { outputOf } from '../output.ts';
import { readOwnConfig } from '../process/run.ts';
import { packageRoot } from '../version.ts';
import { hiddenAmong, needsLowPorts, writableBeside } from './places.ts';
import { type ServiceName, stateDirectoryOf, UNIT_MARK, unitText, userOf } from './unit.ts';

export interface InstallOptions {
  readonly config?: string;
  readonly print?: boolean;
  readonly unitDir: string;
}

/** Everybody may read a unit; it names no secret. */
const UNIT_MODE = 0o644;

const refuse = (message: string): AppError => new AppError('ERR_CLI_UNIT', message);

/** The unit that is there, if it is not one of ours. */
const requireOurs = (file: string): void => {
  if (!existsSync(file) || readFileSync(file, 'utf8').startsWith(UNIT_MARK)) return;
  throw refuse(
    `${file} was not written by sallyport, and is left alone: move it away, give --unit-dir, or take --print`,
  );
};

/** The whole of `relay|agent|gateway install`. */
export const runInstall = async (
  { name, schema }: { readonly name: ServiceName; readonly schema: ZodType },
  options: InstallOptions,
  command: Command,
): Promise<void> => {
  const output = outputOf(command);
  if (process.platform !== 'linux') {
    throw refuse(`units are for systemd, this is ${process.platform}: docs/install.md has its services`);
  }
  const file = resolve(options.config ?? `/etc/sallyport/${name}.yaml`);
  const config = await readOwnConfig(file, { name, schema }, (message) => output.note(message));
  const state = stateDirectoryOf(name);
  const plan = {
    name,
    node: realpathSync(process.execPath),
    program: realpathSync(fileURLToPath(new URL('bin/sallyport', packageRoot))),
    config: file,
    needsLowPorts: needsLowPorts(config),
    writable: writableBeside(config, state),
  };
  const hidden = hiddenAmong([plan.node, plan.program, plan.config, ...plan.writable]);
  if (hidden.length > 0) {
    output.note(
      `warning: the service sees nothing of home and temporary directories (ProtectHome, PrivateTmp); move ${hidden.join(', ')}`,
    );
  }
  const text = unitText(plan);
  if (options.print === true) {
    output.document({ unit: `sallyport-${name}.service`, text });
    output.line(text.trimEnd());
    return;
  }
  const unit = join(resolve(options.unitDir), `sallyport-${name}.service`);
  requireOurs(unit);
  try {
    writeFileAtomically(unit, text, UNIT_MODE);
  } catch (error) {
    throw new AppError(
      'ERR_CLI_UNIT',
      `cannot write ${unit}: ${messageOf(error)}; run this as root, give --unit-dir, or take --print`,
      { cause: error },
    );
  }
  const user = userOf(name);
  const commands = [
    `useradd --system --user-group --home-dir ${state} --no-create-home --shell /usr/sbin/nologin ${user}`,
    ...plan.writable.map((directory) => `install -d -o ${user} -g ${user} -m 0700 ${directory}`),
    'systemctl daemon-reload',
    `systemctl enable --now sallyport-${name}`,
  ];
  output.document({ unit: `sallyport-${name}.service`, file: unit, user, commands });
  output.line(`Written: ${unit}`);
  output.line(`It runs as ${user}, which must be able to read ${file} and the files that it names.`);
  output.line('Then, as root (the first once):');
  for (const line of commands) output.line(`  ${line}`);
};

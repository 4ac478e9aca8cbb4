import type { Command } from 'commander';
import type { ZodType } from 'zod';
import type { InstallOptions } from './install.ts';
import type { ServiceName } from './unit.ts';

const UNIT_DIRECTORY = '/etc/systemd/system';

/** `install` below `relay`, `agent` or `gateway`. */
export const installCommand = (parent: Command, name: ServiceName, schema: () => Promise<ZodType>): void => {
  parent
    .command('install')
    .summary('place, or print, the systemd unit that runs it')
    .description(
      `Reads the configuration and writes a hardened systemd unit for this ${name}: a user of its own, no privilege but ` +
        'a low port where the configuration listens on one, nothing writable but its state. Starts and enables ' +
        'nothing; says what to run next. Connects to: nothing.',
    )
    .option('-c, --config <file>', `the configuration; default /etc/sallyport/${name}.yaml`)
    .option('--print', 'print the unit and write nothing')
    .option('--unit-dir <directory>', 'where the unit goes', UNIT_DIRECTORY)
    .action(async (_options: unknown, command: Command) => {
      const { runInstall } = await import('./install.ts');
      await runInstall({ name, schema: await schema() }, command.optsWithGlobals<InstallOptions>(), command);
    });
};

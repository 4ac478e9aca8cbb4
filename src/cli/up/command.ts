import type { Command } from 'commander';
import { collect } from '../deploy/publication.ts';
import { outputOf } from '../output.ts';
import { readUpOptions, type UpArguments } from './options.ts';

export const upCommand = (program: Command): void => {
  program
    .command('up')
    .summary('everything on this machine, in one go')
    .description(
      'Starts relay, agent, gateway and an embedded PostgreSQL, each as a process of its own, with a development ' +
        'CA, keys and a policy; then says what to type next. Everything is kept in the state directory and used ' +
        'again at the next start. Connects to: nothing outside this machine, unless --database or --publish say so.',
    )
    .option('--state <dir>', 'where keys, CA, data and logs are kept', '.sallyport')
    .option(
      '--publish <name=host:port>',
      'publish this target, with a policy that allows exactly it (repeatable); without it the audit database is published as `audit-db`, and `forbidden`, which policy denies',
      collect,
    )
    .option('--listen <name=addr:port>', 'where applications reach a connection (repeatable)', collect)
    .option('--policy <dir>', 'policy sources, compiled now and after each change (needs OPA)')
    .option('--bundle <file>', 'a compiled bundle, loaded again when it changes')
    .option(
      '--database <url>',
      'a PostgreSQL of your own, as its owner; default: DATABASE_URL, else embedded',
    )
    .option('--ready-file <file>', 'write a JSON description here once everything answers')
    .option(
      '--self-test',
      'open, deny, half-close, revoke, verify; print each with its time; stop; exit 0 or 1',
    )
    .action(async (given: UpArguments, command: Command) => {
      const options = readUpOptions(given);
      const { runUp } = await import('./action.ts');
      await runUp(options, outputOf(command));
    });
};

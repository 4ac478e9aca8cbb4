import type { Command } from 'commander';
import type { KeyringRotation } from '../../control/index.ts';
import { readConfig, systemClock } from '../../runtime/index.ts';
import { counted, outputOf } from '../output.ts';

interface RotateOptions {
  readonly config: string;
  readonly prepare?: boolean;
  readonly dropOld?: boolean;
}

const rotationOf = async (
  file: string,
  onProgress: KeyringRotation['onProgress'],
): Promise<KeyringRotation> => {
  const { relayConfigSchema } = await import('../../relay/index.ts');
  const config = await readConfig(file, relayConfigSchema);
  return {
    keyringFile: config.control.keyring_file,
    databaseUrl: config.control.database_url,
    namespace: config.namespace,
    clock: systemClock,
    actor: `keyring/${config.node}`,
    ...(onProgress === undefined ? {} : { onProgress }),
  };
};

/** `keyring rotate`. */
export const keyringCommands = (program: Command): void => {
  const group = program
    .command('keyring')
    .description(
      'The master keys that encrypt stored keys. Connects to: the control database of relay.yaml.',
    );

  group
    .command('rotate')
    .summary('seal every stored key under a new master key')
    .description(
      'Makes a new master key in the keyring file of relay.yaml and seals every stored key again under it. Nodes that ' +
        'share the file notice by themselves. When nodes have copies of it: run with --prepare, bring the file to ' +
        'every node, run without, bring it again. A run that was broken off is continued by the next. ' +
        'Connects to: the control database of relay.yaml.',
    )
    .requiredOption('-c, --config <file>', 'relay.yaml of a node')
    .option('--prepare', 'only add the new master key to the file; nothing is sealed with it yet')
    .option('--drop-old', 'afterwards remove master keys that seal nothing any more from the file')
    .action(async (options: RotateOptions, command: Command) => {
      const output = outputOf(command);
      const { dropMasterKeys, prepareMasterKey, rewrapKeys } = await import('../../control/index.ts');
      const rotation = await rotationOf(options.config, (done, total) =>
        output.progress(`${done} of ${total} keys`),
      );
      if (options.prepare === true) {
        const prepared = await prepareMasterKey(rotation.keyringFile);
        output.document({ prepared });
        output.line(`${prepared} is in ${rotation.keyringFile} and seals nothing yet`);
        output.note('bring the file to every relay node, then run keyring rotate without --prepare');
        return;
      }
      const result = await rewrapKeys(rotation);
      const dropped = options.dropOld === true ? await dropMasterKeys(rotation) : [];
      output.progress(undefined);
      output.document({ ...result, dropped });
      output.line(
        `${counted(result.rewrapped, 'key is', 'keys are')} sealed under ${result.current}${result.resumed ? ' (an earlier run was continued)' : ''}`,
      );
      if (dropped.length > 0) output.line(`removed from the file: ${dropped.join(', ')}`);
      else if (options.dropOld !== true)
        output.note(
          'the old master key stays in the file, for backups of the database; --drop-old removes it',
        );
    });
};

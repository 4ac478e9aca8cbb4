import type { Command } from 'commander';
import type { AddressedHost, GatewayConfig } from '../gateway/index.ts';
import { readConfig, systemClock } from '../runtime/index.ts';
import { gatewayEntrances } from './gateway-status.ts';
import { type Output, outputOf } from './output.ts';

interface Options {
  readonly config: string;
  readonly file?: string;
}

/** A host with the address that leads to it, and where its ports lead. */
interface NameRow {
  readonly name: string;
  readonly aliases: readonly string[];
  readonly address: string;
  readonly ports: readonly { readonly port: number; readonly connection: string }[];
}

export const nameRows = (hosts: readonly AddressedHost[]): NameRow[] =>
  hosts.map(({ names: [name = '', ...aliases], address, ports }) => ({ name, aliases, address, ports }));

export const showNames = (output: Output, rows: readonly NameRow[]): void => {
  if (rows.length === 0) return;
  output.table(rows, [
    { title: 'name', value: ({ name, aliases }) => [name, ...aliases].join(' ') },
    { title: 'address', value: ({ address }) => address },
    {
      title: 'port and connection',
      value: ({ ports }) => ports.map(({ port, connection }) => `${port} ${connection}`).join(', '),
    },
  ]);
};

const openConfig = async ({ config, file }: Options): Promise<{ config: GatewayConfig; file: string }> => {
  const { gatewayConfigSchema, systemHostsFile } = await import('../gateway/index.ts');
  return { config: await readConfig(config, gatewayConfigSchema), file: file ?? systemHostsFile() };
};

const IN_PLACE =
  'it could not be replaced in one step (a mount, a hard link, its directory) and was written over';

const runPrint = async (options: Options, output: Output): Promise<void> => {
  const { previewNames, readHostsFile, showNamesBlock } = await import('../gateway/index.ts');
  const { config, file } = await openConfig(options);
  const hosts = previewNames(config, readHostsFile(file), systemClock);
  const { block, standing } = showNamesBlock(file, config, hosts);
  output.document({ file, standing, names: nameRows(hosts), block });
  for (const line of block) output.line(line);
  if (hosts.length === 0) output.note(`${options.config} has no transparent connection`);
  if (standing !== 'applied')
    output.note(`${file} is not so: run \`sallyport hosts apply -c ${options.config}\` as root`);
};

/** Says which names lead to nobody now. */
const noteSilent = async (
  config: GatewayConfig,
  hosts: readonly AddressedHost[],
  output: Output,
): Promise<void> => {
  if (hosts.length === 0) return;
  const told = await gatewayEntrances(`http://${config.status.listen}`);
  if (told === undefined) {
    output.note('the gateway does not answer: until it runs, these names lead to nobody');
    return;
  }
  const listening = new Set(told.entrances.map(({ listen }) => listen));
  const silent = hosts
    .flatMap(({ address, ports }) => ports.map(({ port }) => `${address}:${port}`))
    .filter((listen) => !listening.has(listen));
  if (silent.length > 0) output.note(`the gateway does not listen on ${silent.join(', ')} yet: restart it`);
};

const runApply = async (options: Options, output: Output): Promise<void> => {
  const { applyNames, assignNames, readHostsFile } = await import('../gateway/index.ts');
  const { config, file } = await openConfig(options);
  const hosts = await assignNames(config, readHostsFile(file), systemClock);
  const { changed, inPlace } = await applyNames(file, config, hosts, systemClock);
  const names = nameRows(hosts);
  output.document({ file, changed, in_place: inPlace, names });
  showNames(output, names);
  output.line(changed ? `written to ${file}` : `${file} is so already`);
  if (inPlace) output.note(IN_PLACE);
  await noteSilent(config, hosts, output);
};

const runRemove = async (options: Options, output: Output): Promise<void> => {
  const { removeNames } = await import('../gateway/index.ts');
  const { config, file } = await openConfig(options);
  const { changed, inPlace } = await removeNames(file, config, systemClock);
  output.document({ file, changed, in_place: inPlace });
  output.line(changed ? `removed from ${file}` : `${file} has no names of this gateway`);
  if (inPlace) output.note(IN_PLACE);
};

/** `hosts print|apply|remove`. */
export const hostsCommand = (program: Command): void => {
  const group = program
    .command('hosts')
    .summary('names for the applications')
    .description(
      'The block of a hosts file through which applications reach the transparent connections of a gateway under ' +
        "their targets' own names (docs/transparent-names.md).",
    );
  const add = (
    name: string,
    description: string,
    run: (options: Options, output: Output) => Promise<void>,
  ): void => {
    group
      .command(name)
      .description(description)
      .requiredOption('-c, --config <file>', 'gateway.yaml')
      .option('--file <file>', "another hosts file than the system's")
      .action((options: Options, command: Command) => run(options, outputOf(command)));
  };
  add(
    'print',
    'Shows the block, and says whether the hosts file has it. Writes nothing. Connects to: nothing.',
    runPrint,
  );
  add(
    'apply',
    'Writes the block into the hosts file, in the place of the one that is there. Needs the right to write that file. ' +
      'What others have there for the same name or address is refused with its line. ' +
      "Connects to: the gateway's own status address, to say whether it listens.",
    runApply,
  );
  add(
    'remove',
    'Takes the block out again; every other byte stays. Needs the right to write the file. Connects to: nothing.',
    runRemove,
  );
};

import { AppError, type Clock } from '../../runtime/index.ts';
import type { GatewayErrorCode } from '../errors.ts';
import { editHostsFile, type HostsWrite, readHostsFile } from './hosts-file.ts';
import {
  blockId,
  blockLines,
  conflictsWith,
  DamagedBlockError,
  type HostsEntry,
  readHostsText,
  withBlock,
} from './hosts-text.ts';
import { type AddressedHost, hostsEntries, type NamesConfig } from './names.ts';

/** How a hosts file stands to what `applyNames` would make of it. */
export type Standing = 'applied' | 'differs' | 'absent';

/** A block that is not as it was written, said of the file that it is in. */
const refuseDamage = (file: string, error: unknown): never => {
  if (!(error instanceof DamagedBlockError)) throw error;
  throw new AppError<GatewayErrorCode>('ERR_HOSTS_DAMAGED', `${file}: ${error.message}`, { cause: error });
};

const refuseConflicts = (file: string, text: string, id: string, entries: readonly HostsEntry[]): void => {
  const conflicts = conflictsWith(readHostsText(text, id).others, entries);
  if (conflicts.length === 0) return;
  throw new AppError<GatewayErrorCode>(
    'ERR_HOSTS_CONFLICT',
    `${file} leads these elsewhere already; take the lines out, or transparent: true out of the connection\n${conflicts
      .map((conflict) => `${file}:${conflict}`)
      .join('\n')}`,
  );
};

/** The block of a gateway, without line ends, and whether a hosts file has it. @throws AppError ERR_HOSTS_FILE, ERR_HOSTS_DAMAGED */
export const showNamesBlock = (
  file: string,
  config: NamesConfig,
  hosts: readonly AddressedHost[],
): { readonly block: readonly string[]; readonly standing: Standing } => {
  const id = blockId(config);
  const entries = hostsEntries(hosts);
  const text = readHostsFile(file);
  const block = entries.length === 0 ? [] : blockLines(id, entries);
  try {
    if (withBlock(text, id, entries) === text) return { block, standing: 'applied' };
    return { block, standing: readHostsText(text, id).own === undefined ? 'absent' : 'differs' };
  } catch (error) {
    return refuseDamage(file, error);
  }
};

/**
 * Makes a hosts file lead the names of a gateway to their addresses; without names its block goes.
 * @throws AppError ERR_HOSTS_FILE, ERR_HOSTS_BUSY, ERR_HOSTS_DAMAGED, ERR_HOSTS_CONFLICT
 */
export const applyNames = async (
  file: string,
  config: NamesConfig,
  hosts: readonly AddressedHost[],
  clock: Clock,
): Promise<HostsWrite> => {
  const id = blockId(config);
  const entries = hostsEntries(hosts);
  try {
    return await editHostsFile(file, clock, (text) => {
      refuseConflicts(file, text, id, entries);
      return withBlock(text, id, entries);
    });
  } catch (error) {
    return refuseDamage(file, error);
  }
};

/** Takes the block of a gateway out of a hosts file. @throws AppError ERR_HOSTS_FILE, ERR_HOSTS_BUSY, ERR_HOSTS_DAMAGED */
export const removeNames = (file: string, config: NamesConfig, clock: Clock): Promise<HostsWrite> =>
  applyNames(file, config, [], clock);

/** An image's configuration (OCI image-spec, "Image Configuration", and what Docker adds to it). */
export interface ImageConfig {
  created?: string
  author?: string
  architecture: string
  variant?: string
  os: string
  config?: RunConfig
  container_config?: RunConfig
  docker_version?: string
  comment?: string
  rootfs: { type: 'layers', diff_ids: string[] }
  history?: HistoryEntry[]
}

export interface HistoryEntry { created?: string, created_by?: string, author?: string, comment?: string, empty_layer?: boolean }

/** What an image says of the containers made of it; the API's ContainerConfig without what only containers have. */
export interface RunConfig {
  Hostname?: string
  Domainname?: string
  User?: string
  AttachStdin?: boolean
  AttachStdout?: boolean
  AttachStderr?: boolean
  ExposedPorts?: Record<string, object> | null
  Tty?: boolean
  OpenStdin?: boolean
  StdinOnce?: boolean
  Env?: string[] | null
  Cmd?: string[] | null
  Image?: string
  Healthcheck?: Health
  ArgsEscaped?: boolean
  Volumes?: Record<string, object> | null
  WorkingDir?: string
  Entrypoint?: string[] | null
  OnBuild?: string[] | null
  Labels?: Record<string, string> | null
  StopSignal?: string
  StopTimeout?: number
  Shell?: string[] | null
}

export interface Health { Test?: string[], Interval?: number, Timeout?: number, Retries?: number, StartPeriod?: number, StartInterval?: number }

/** A manifest as a registry had it, or was given it. */
export interface KeptManifest { mediaType: string, text: string }

/** An image as it is kept. */
export interface Image {
  /** `sha256:` of the configuration's bytes. */
  id: string
  /** The configuration's exact text. */
  text: string
  config: ImageConfig
  /** The chain ID of the highest layer; an image may have none. */
  topLayer?: string
  /** The image that it was committed from. */
  parent?: string
  /** RFC 3339, or absent for one that was never tagged here. */
  lastTagged?: string
  /** The manifests that it came by or went by, oldest first. */
  manifests?: KeptManifest[]
}

/** This machine's architecture by Go's name, which images use. */
export const goArchitecture = process.arch === 'x64' ? 'amd64' : process.arch

/** The time of what has none (Go's zero time). */
export const ZERO_TIME = '0001-01-01T00:00:00Z'

/** What an event about an image says of it. */
export function attributesOf(image: Image, name: string): Record<string, string> {
  return { name, ...image.config.config?.Labels }
}

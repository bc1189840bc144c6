/** Where a registry keeps what, as Docker's own registry has it (distribution, "Storage driver: file system layout"), so
 * that either can take over the other's directory. Referrers are ours. */
const BASE = 'docker/registry/v2'
const REPOSITORIES = `${BASE}/repositories`

const parts = (digest: string): string => digest.replace(':', '/')

export const layout = {
  repositories: REPOSITORIES,
  blobs: `${BASE}/blobs`,
  blob(digest: string): string {
    const [algorithm = '', hex = ''] = digest.split(':')
    return `${BASE}/blobs/${algorithm}/${hex.slice(0, 2)}/${hex}/data`
  },
  repository: (name: string): string => `${REPOSITORIES}/${name}`,
  layers: (name: string): string => `${REPOSITORIES}/${name}/_layers`,
  layer: (name: string, digest: string): string => `${REPOSITORIES}/${name}/_layers/${parts(digest)}/link`,
  revisions: (name: string): string => `${REPOSITORIES}/${name}/_manifests/revisions`,
  revision: (name: string, digest: string): string => `${REPOSITORIES}/${name}/_manifests/revisions/${parts(digest)}/link`,
  tags: (name: string): string => `${REPOSITORIES}/${name}/_manifests/tags`,
  tag: (name: string, tag: string): string => `${REPOSITORIES}/${name}/_manifests/tags/${tag}`,
  current: (name: string, tag: string): string => `${REPOSITORIES}/${name}/_manifests/tags/${tag}/current/link`,
  tagged: (name: string, tag: string, digest: string): string => `${REPOSITORIES}/${name}/_manifests/tags/${tag}/index/${parts(digest)}/link`,
  referrers: (name: string, subject: string): string => `${REPOSITORIES}/${name}/_manifests/referrers/${parts(subject)}`,
  referrer: (name: string, subject: string, digest: string): string => `${REPOSITORIES}/${name}/_manifests/referrers/${parts(subject)}/${parts(digest)}/link`,
  uploads: (name: string): string => `${REPOSITORIES}/${name}/_uploads`,
  upload: (name: string, id: string): string => `${REPOSITORIES}/${name}/_uploads/${id}`,
  uploaded: (name: string, id: string): string => `${REPOSITORIES}/${name}/_uploads/${id}/data`,
}

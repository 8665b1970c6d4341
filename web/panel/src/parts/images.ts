import type { Image } from '../api/api'

const known = ['image/png', 'image/jpeg', 'image/gif', 'image/webp']
const most = 5
const largest = 15 << 20

/** Pictures out of a paste or a drop, in the form of a prompt, added to those
 * that are there. It fails with a sentence where one cannot be taken. */
export async function addImages(there: Image[], files: Iterable<File>): Promise<Image[]> {
  const added = [...there]
  for (const file of files) {
    if (!known.includes(file.type)) throw new Error(`${file.name} is no picture that models are shown. PNG, JPEG, GIF and WebP are.`)
    if (file.size > largest) throw new Error(`${file.name} has more than 15 MB. Make it smaller first.`)
    if (added.length === most) throw new Error(`A prompt takes ${most} pictures at most.`)
    added.push({ mimeType: file.type, data: await base64(file) })
  }
  return added
}

function base64(file: File): Promise<string> {
  return new Promise((resolve, reject) => {
    const reader = new FileReader()
    reader.onload = () => resolve(String(reader.result).replace(/^data:[^,]*,/, ''))
    reader.onerror = () => reject(new Error(`${file.name} cannot be read.`))
    reader.readAsDataURL(file)
  })
}

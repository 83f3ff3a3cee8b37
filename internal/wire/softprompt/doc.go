// Package softprompt writes and reads the bytes of a soft prompt as inference servers take them: standard base64 of the zip that
// torch.save writes for one dense float tensor of shape [rows, hidden]. There is no pickle machine here: the writer emits one fixed
// program, the reader matches a fixed grammar and refuses everything else.
package softprompt

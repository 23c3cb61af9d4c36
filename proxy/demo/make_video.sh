#!/bin/sh
# Makes video.mp4, the demo's film: 60 s, 1280x720, 25 frames a second, H.264 and AAC.
# Needs ffmpeg (5.1 was used) and the DejaVu fonts; takes about a minute.
#
# Four things are on purpose:
#   - the index (moov) stands at the END of the file, as ffmpeg and many cameras write it, so a player has to
#     reach the end before it can show anything;
#   - the colour tells the time: the chroma angle atan2(Cr, Cb) turns 5 degrees a second, from 0 degrees to 300,
#     so that any pixel outside the lettering says which moment this is;
#   - a key frame every 2 s, so that a seek needs only a small piece of the file;
#   - a little grain, which costs bits, so that the file is large enough (about 4 MB) to watch it arrive.
set -eu
cd "$(dirname "$0")"

fonts=/usr/share/fonts/truetype/dejavu
graph=$(mktemp)
trap 'rm -f "$graph"' EXIT

# Luma drifts slowly; the two chroma planes are flat and turn with the time.
cat >"$graph" <<GRAPH
color=black:s=320x180:r=25:d=60, format=yuv444p,
geq=lum='98 + 20*sin(X/57+T/1.9)*cos(Y/41-T/2.7) + 12*sin((X+Y)/33-T/1.3) - Y/5'
   :cb='128 + 40*cos(PI*T/36)'
   :cr='128 + 40*sin(PI*T/36)',
scale=1280:720:flags=bicubic, noise=c0s=7:c0f=t:all_seed=206, format=yuv420p,
drawtext=fontfile=$fonts/DejaVuSansMono-Bold.ttf:fontsize=210:fontcolor=white:x=(w-tw)/2:y=222
   :text='%{eif\:floor(n/25)\:d\:2}.%{eif\:mod(floor(n/2.5)\,10)\:d} s',
drawtext=fontfile=$fonts/DejaVuSansMono.ttf:fontsize=40:fontcolor=white@0.85:x=(w-tw)/2:y=432
   :text='frame %{eif\:n\:d\:4}',
$(for tenth in 1 2 3 4 5 6 7 8 9; do
  echo "drawtext=fontfile=$fonts/DejaVuSans.ttf:fontsize=26:fontcolor=white@0.85:x=64+115.2*$tenth-tw/2:y=78"
  echo ":expansion=none:text='$((tenth * 10)) %',"
done)
null [picture];
color=black@0.35:s=1152x12:r=25:d=60, format=yuva444p [track];
color=white:s=1152x12:r=25:d=60, format=yuva444p [played];
[track][played] overlay=x='-1152+1152*t/60':format=yuv444 [bar];
[picture][bar] overlay=x=64:y=48 [video];
aevalsrc=s=44100:d=60:exprs='
    0.10*sin(2*PI*220*t)*(0.6+0.4*sin(PI*t/4))
  + 0.06*sin(2*PI*330*t)*(0.6+0.4*cos(PI*t/5))
  + 0.20*sin(2*PI*880*t)*exp(-40*mod(t\,1))' [audio]
GRAPH

ffmpeg -v warning -y -filter_complex_script "$graph" -map '[video]' -map '[audio]' -t 60 \
  -c:v libx264 -profile:v high -preset slow -crf 27 -g 50 -pix_fmt yuv420p \
  -color_range tv -colorspace bt709 -color_primaries bt709 -color_trc bt709 \
  -c:a aac -b:a 64k \
  -map_metadata -1 -fflags +bitexact -flags:v +bitexact -flags:a +bitexact \
  video.mp4

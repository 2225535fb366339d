// dlib's own numbers of aligned faces: `dlib_face NETWORK.dat CHIPS` reads chips of 150 x 150 RGB bytes, one after
// another, and prints 128 numbers a line. The layers are those that ipa_bench/nets/dlib_face.py describes; dlib checks
// them against the file as it reads it.
//
//     g++ -std=c++14 -O1 -I DLIB dlib_face.cpp DLIB/libdlib.a -lpthread -ldl -o dlib_face      (DLIB: its source, 20.0.1)
#include <dlib/dnn.h>
#include <fstream>
#include <iomanip>
#include <iostream>

using namespace dlib;

template <int out, int step, class X> using Pair =
    affine<con<out, 3, 3, 1, 1, relu<affine<con<out, 3, 3, step, step, X>>>>>;
template <int out, class X> using Same = relu<add_prev1<Pair<out, 1, tag1<X>>>>;
template <int out, class X> using Half = relu<add_prev2<avg_pool<2, 2, 2, 2, skip1<tag2<Pair<out, 2, tag1<X>>>>>>>;
template <class X> using Start = max_pool<3, 3, 2, 2, relu<affine<con<32, 7, 7, 2, 2, X>>>>;
template <class X> using At32 = Same<32, Same<32, Same<32, X>>>;
template <class X> using At64 = Same<64, Same<64, Same<64, Half<64, X>>>>;
template <class X> using At128 = Same<128, Same<128, Half<128, X>>>;
template <class X> using At256 = Half<256, Same<256, Same<256, Half<256, X>>>>;
using Net = loss_metric<
    fc_no_bias<128, avg_pool_everything<At256<At128<At64<At32<Start<input_rgb_image_sized<150>>>>>>>>>;

int main(int, char **arguments) {
    Net net;
    deserialize(arguments[1]) >> net;
    std::ifstream chips(arguments[2], std::ios::binary);
    matrix<rgb_pixel> face(150, 150);
    std::cout << std::setprecision(9);
    while (chips.read(reinterpret_cast<char *>(&face(0, 0)), 150 * 150 * sizeof(rgb_pixel))) {
        const matrix<float, 0, 1> numbers = net(face);
        for (long i = 0; i < numbers.size(); ++i)
            std::cout << numbers(i) << (i + 1 < numbers.size() ? ' ' : '\n');
    }
}
